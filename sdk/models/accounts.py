"""What a hub answers about users, organisations and their tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

from sdk.models.answer import Answer


@dataclass(frozen=True)
class RoleIn(Answer):
    """An organisation, and what somebody is in it."""

    name: str
    role: str


@dataclass(frozen=True)
class Account(Answer):
    """Whose the token is, and what it may do."""

    name: str
    kind: str
    scopes: tuple[str, ...]
    organisations: tuple[RoleIn, ...] = ()
    restricted_to: tuple[str, ...] | None = None
    is_admin: bool = False


@dataclass(frozen=True)
class SignedIn(Answer):
    """A token with all that its user may. It is in no repr."""

    user: str
    is_admin: bool
    token: str = field(repr=False)
    expires_at: str


@dataclass(frozen=True, kw_only=True)
class DeviceCode(Answer):
    """What a program that asks to be let in is told: `user_code` is shown to its user, `device_code` to nobody."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


@dataclass(frozen=True, kw_only=True)
class DeviceToken(Answer):
    """The token of a program that was let in, and the seconds it lasts."""

    access_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, kw_only=True)
class Token(Answer):
    """A token without its secret. `kind` is personal, service, worker or session."""

    id: str
    name: str | None
    kind: str
    account: str
    last4: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...] | None
    created_by: str | None
    created_at: str
    expires_at: str
    last_used_at: str | None
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class NewToken(Token):
    """A token with its secret, which no later answer holds."""

    token: str = field(repr=False)


@dataclass(frozen=True)
class Publisher(Answer):
    """A workflow of a CI system that may push to `target`, a namespace or an adapter."""

    id: str
    target: str
    issuer: str
    repository: str
    repository_id: str
    owner_id: str
    workflow: str
    environment: str | None
    created_by: str
    created_at: str


@dataclass(frozen=True)
class Oidc(Answer):
    """For whom a job must ask its CI system to vouch, and whose word the hub takes."""

    audience: str
    issuers: tuple[str, ...]


@dataclass(frozen=True)
class JobToken(Answer):
    """The token of a CI job, for a quarter of an hour. It is in no repr."""

    token: str = field(repr=False)
    expires_at: str
    account: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...]


@dataclass(frozen=True)
class User(Answer):
    name: str
    is_admin: bool
    created_at: str


@dataclass(frozen=True)
class Code(Answer):
    """What a user signs in with, once."""

    user: str
    code: str = field(repr=False)
    expires_at: str


@dataclass(frozen=True)
class Organisation(Answer):
    """An organisation. `role` is that of whoever asked, None for everybody else."""

    name: str
    role: str | None
    created_at: str


@dataclass(frozen=True)
class Member(Answer):
    user: str
    role: str
    since: str


@dataclass(frozen=True)
class Invitation(Answer):
    organisation: str
    user: str
    role: str
    invited_by: str
    created_at: str
    expires_at: str
