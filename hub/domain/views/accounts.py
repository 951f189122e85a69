"""Users, organisations and their tokens, as the hub shows them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

RoleName = Literal["reader", "publisher", "maintainer", "owner"]


@dataclass(frozen=True)
class RoleView:
    """An organisation, and what somebody is in it."""

    name: str
    role: RoleName


@dataclass(frozen=True, kw_only=True)
class PrincipalView:
    """Who a token speaks for, and what it may do."""

    name: str
    kind: str
    scopes: tuple[str, ...]
    organisations: tuple[RoleView, ...]
    restricted_to: tuple[str, ...] | None
    is_admin: bool


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """A token without its secret. `kind` is "personal", "service", "worker" or "session"."""

    id: str
    name: str | None
    kind: str
    account: str
    last4: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...] | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class NewTokenView(TokenView):
    """A token with its secret, which is shown this once."""

    token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PublisherView:
    """A workflow that may push to `target`, a namespace or an adapter."""

    id: str
    target: str
    issuer: str
    repository: str
    repository_id: str
    owner_id: str
    workflow: str
    environment: str | None
    created_by: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class OidcView:
    audience: str
    issuers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JobTokenView:
    """The token of a CI job."""

    token: str = field(repr=False)
    expires_at: datetime
    account: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UserView:
    name: str
    is_admin: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class CodeView:
    """What a user signs in with, once."""

    user: str
    code: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class LoginView:
    """A token with all that its user may."""

    user: str
    is_admin: bool
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class OrganisationView:
    """An organisation. `role` is that of whoever asks, None for everybody else."""

    name: str
    role: RoleName | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class MemberView:
    user: str
    role: RoleName
    since: datetime


@dataclass(frozen=True, kw_only=True)
class InvitationView:
    """A role that waits for `user` to accept it."""

    organisation: str
    user: str
    role: RoleName
    invited_by: str
    created_at: datetime
    expires_at: datetime
