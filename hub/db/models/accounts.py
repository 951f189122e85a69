"""Who may act: users, organisations and their members, and what they show to be believed."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.db.models.table import SHA256, Table
from hub.db.types import JsonText


class Account(Table):
    """Who owns adapters: a user or an organisation. One that was deleted keeps its name, so that nobody
    can take it over and be taken for it."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("kind IN ('user', 'organisation')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(39), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    # When a worker last took one of this owner's evaluations: whose turn it is next.
    served_at: Mapped[datetime | None]
    is_admin: Mapped[bool] = mapped_column(server_default=false())
    # argon2id, for those who sign in with a password.
    password_hash: Mapped[str | None] = mapped_column(String(200))
    deleted_at: Mapped[datetime | None]
    # The hub whose namespace this is a copy of; nobody is anything in it here. NULL is one of our own.
    mirrored_from: Mapped[str | None] = mapped_column(String(200))


class Membership(Table):
    """What a user is in an organisation."""

    __tablename__ = "memberships"
    __table_args__ = (CheckConstraint("role IN ('reader', 'publisher', 'maintainer', 'owner')", name="role"),)

    organisation_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]

    organisation: Mapped[Account] = relationship(lazy="raise", foreign_keys=organisation_id)
    user: Mapped[Account] = relationship(lazy="raise", foreign_keys=user_id)


class Invitation(Table):
    """A role that waits for a user to accept it. The row goes when they answer."""

    __tablename__ = "invitations"
    __table_args__ = (CheckConstraint("role IN ('reader', 'publisher', 'maintainer', 'owner')", name="role"),)

    organisation_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))
    invited_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]

    organisation: Mapped[Account] = relationship(lazy="raise", foreign_keys=organisation_id)
    user: Mapped[Account] = relationship(lazy="raise", foreign_keys=user_id)
    invited_by: Mapped[Account] = relationship(lazy="raise", foreign_keys=invited_by_id)


class Token(Table):
    """A secret's hash and what it may do. The secret itself is shown once and never kept.

    `account_id` is whom it speaks for, `created_by_id` who made it, when that is somebody else.
    """

    __tablename__ = "tokens"
    __table_args__ = (CheckConstraint("kind IN ('p', 'c', 'w', 'b', 's')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    kind: Mapped[str] = mapped_column(String(1))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    last4: Mapped[str] = mapped_column(String(4))
    scopes: Mapped[list[str]] = mapped_column(JsonText)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    name: Mapped[str | None] = mapped_column(String(100))
    # Namespaces and adapters that it is for; NULL is all its account reaches.
    restricted_to: Mapped[list[str] | None] = mapped_column(JsonText)
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    # The job that it was minted for, which goes into every version it pushes.
    provenance: Mapped[dict[str, str] | None] = mapped_column(JsonText)

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    created_by: Mapped[Account | None] = relationship(lazy="raise", foreign_keys=created_by_id)


class KeptAnswer(Table):
    """What a request was answered that is to be done once, for whoever sends it again with the same token and key.

    `name` is the key and `fingerprint` the request, both as hashes; what was answered is sealed under token and key.
    """

    __tablename__ = "kept_answers"

    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(SHA256, primary_key=True)
    fingerprint: Mapped[str] = mapped_column(SHA256)
    # Method and path, for people.
    asked: Mapped[str] = mapped_column(String(300))
    status: Mapped[int]
    etag: Mapped[str | None] = mapped_column(String(80))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(index=True)


class DeviceLogin(Table):
    """A program on some machine that asks to be let in (RFC 8628). The row goes when its token is collected, or with time.

    `user_code` is what a person reads off its screen; `hash` is of the code that only the program knows.
    """

    __tablename__ = "device_logins"
    __table_args__ = (CheckConstraint("state IN ('waiting', 'allowed', 'denied')", name="state"),)

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    user_code: Mapped[str] = mapped_column(String(9), unique=True)
    # What the program says it is, and where it asked from.
    client: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(8))
    # Who has allowed it, and what.
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    scopes: Mapped[list[str] | None] = mapped_column(JsonText)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)

    account: Mapped[Account | None] = relationship(lazy="raise")


class Publisher(Table):
    """A workflow of a CI system that may push to a namespace, or to one adapter in it."""

    __tablename__ = "publishers"
    __table_args__ = (Index("ix_publishers_issuer_repository_id", "issuer", "repository_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    adapter_name: Mapped[str | None] = mapped_column(String(64))
    issuer: Mapped[str] = mapped_column(String(200))
    repository: Mapped[str] = mapped_column(String(200))
    # Names can be given to others; these numbers cannot.
    repository_id: Mapped[str] = mapped_column(String(40))
    owner_id: Mapped[str] = mapped_column(String(40))
    workflow: Mapped[str] = mapped_column(String(200))
    environment: Mapped[str | None] = mapped_column(String(100))
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    created_by: Mapped[Account] = relationship(lazy="raise", foreign_keys=created_by_id)


class ShownIdentity(Table):
    """The identity of a job that was shown once, kept until nobody would take it any more."""

    __tablename__ = "shown_identities"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Secret(Table):
    """A random key of this hub, the same for every process that shares the database."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)
