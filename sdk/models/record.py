"""What a hub answers about what happened there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdk.models.answer import Answer


@dataclass(frozen=True)
class VersionDownloads(Answer):
    """How many have downloaded a version on a day."""

    day: str
    version: int
    count: int


@dataclass(frozen=True)
class Downloads(Answer):
    """How often an adapter was downloaded: ever, and by version and day where that was more than never."""

    id: str
    total: int
    days: tuple[VersionDownloads, ...]


@dataclass(frozen=True, kw_only=True)
class Webhook(Answer):
    """An address that hears of the changes of `target`, a namespace or an adapter. `actions` None is all of them."""

    id: str
    target: str
    url: str
    actions: tuple[str, ...] | None
    created_by: str
    created_at: str
    disabled_at: str | None
    # Until when messages are signed with the secret before this one too.
    old_secret_until: str | None = None


@dataclass(frozen=True, kw_only=True)
class NewWebhook(Webhook):
    """A webhook with the secret that signs what is sent to it, which no later answer holds."""

    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Delivery(Answer):
    """One message, and what came of the last attempt to send it. `state` is waiting, done or failed."""

    id: str
    message_id: str
    action: str
    payload: Mapping[str, Any]
    state: str
    attempts: int
    status: int | None
    error: str | None
    milliseconds: int | None
    created_at: str
    tried_at: str | None
    next_at: str | None


@dataclass(frozen=True, kw_only=True)
class AuditEvent(Answer):
    """Who has changed what. `chain` is the namespace, empty for the hub; `hash` covers all the rest."""

    chain: str
    number: int
    at: str
    actor: str
    token_id: int | None
    action: str
    subject: str
    facts: Mapping[str, Any]
    previous: str
    hash: str
