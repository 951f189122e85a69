"""What happened, as the hub shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class VersionDownloads:
    """How many have downloaded a version on a day (UTC)."""

    day: date
    version: int
    count: int


@dataclass(frozen=True, kw_only=True)
class DownloadsView:
    """How often an adapter was downloaded: ever, and by version and day where that was more than never."""

    id: str
    total: int
    days: tuple[VersionDownloads, ...]


@dataclass(frozen=True, kw_only=True)
class AuditEventView:
    """Who has changed what. `chain` is the namespace, empty for the hub; `hash` covers all the rest."""

    chain: str
    number: int
    at: datetime
    actor: str
    token_id: int | None
    action: str
    subject: str
    facts: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class WebhookView:
    """An address that hears of the changes of `target`, a namespace or an adapter. `actions` None is all of them."""

    id: str
    target: str
    url: str
    actions: tuple[str, ...] | None
    created_by: str
    created_at: datetime
    disabled_at: datetime | None
    # Until when messages are signed with the secret before this one too; null when there is none.
    old_secret_until: datetime | None


@dataclass(frozen=True, kw_only=True)
class NewWebhookView(WebhookView):
    """A webhook with the secret that signs what is sent to it, which is shown this once."""

    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DeliveryView:
    """One message, and what came of the last attempt to send it. `next_at` is null when none follows."""

    id: str
    message_id: str
    action: str
    payload: Mapping[str, Any]
    state: Literal["waiting", "done", "failed"]
    attempts: int
    status: int | None
    error: str | None
    milliseconds: int | None
    created_at: datetime
    tried_at: datetime | None
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class FeedEntry:
    """Something that became of `ref`. `number` is its place in the record of the namespace."""

    number: int
    ref: str
    adapter: str
    title: str
    author: str
    at: datetime
    text: str | None
