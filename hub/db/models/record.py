"""What happened: the record, downloads, and what webhooks were told."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.db.models.accounts import Account
from hub.db.models.table import SHA256, Table
from hub.db.types import JsonText


class AuditChain(Table):
    """The head of the record of one namespace, or of the hub itself (the empty name). Whoever adds to the record
    holds this row, so that events of one chain follow one another."""

    __tablename__ = "audit_chains"

    name: Mapped[str] = mapped_column(String(39), primary_key=True)
    length: Mapped[int]
    hash: Mapped[str] = mapped_column(SHA256)


class AuditEvent(Table):
    """Who has done what, kept with the change itself. `hash` covers the event and the hash before it.

    Names are text and not keys: a record says what was, whatever becomes of it.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        UniqueConstraint("chain", "number"),
        Index("ix_audit_events_adapter", "chain", "adapter", "number"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    chain: Mapped[str] = mapped_column(ForeignKey("audit_chains.name"))
    number: Mapped[int]
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(39))
    # The token that was used; NULL for the hub itself, and for who signs in.
    token_id: Mapped[int | None]
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(200))
    # The name of the adapter in `subject`, by which a record is narrowed down.
    adapter: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]] = mapped_column(JsonText)
    previous: Mapped[str] = mapped_column(SHA256)
    hash: Mapped[str] = mapped_column(SHA256)


class DownloadCount(Table):
    """How many have fetched the weights of a version on one day (UTC), each counted once."""

    __tablename__ = "download_counts"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    count: Mapped[int]


class DownloadDay(Table):
    """What the addresses of one day are hashed with. It goes with the day: then nobody can tell whose they were."""

    __tablename__ = "download_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))


class Downloader(Table):
    """Somebody who was counted already, as a hash that means nothing without the day's salt."""

    __tablename__ = "downloaders"

    day: Mapped[date] = mapped_column(ForeignKey("download_days.day"), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    who: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)


class Webhook(Table):
    """An address that hears of the changes in a namespace, or of one adapter in it. The secret signs what is sent."""

    __tablename__ = "webhooks"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    adapter_name: Mapped[str | None] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(String(500))
    secret: Mapped[str] = mapped_column(String(100))
    # The one before it, which signs beside it until then.
    old_secret: Mapped[str | None] = mapped_column(String(100))
    old_secret_until: Mapped[datetime | None]
    # The actions it hears of; NULL is all.
    actions: Mapped[list[str] | None] = mapped_column(JsonText)
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]
    # When its receiver has answered 410 Gone: it is sent nothing any more.
    disabled_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    created_by: Mapped[Account] = relationship(lazy="raise", foreign_keys=created_by_id)


class Delivery(Table):
    """One message to one webhook, enqueued by the change that it tells of. `key` is the webhook-id of every attempt."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'done', 'failed')", name="state"),
        Index("ix_deliveries_due", "state", "next_at"),
        Index("ix_deliveries_webhook_id", "webhook_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(40))
    action: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(8))
    attempts: Mapped[int]
    # When it is next sent; while it is being sent, when somebody else may take it.
    next_at: Mapped[datetime]
    created_at: Mapped[datetime]
    # What came of the last attempt.
    tried_at: Mapped[datetime | None]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(500))
    milliseconds: Mapped[int | None]

    webhook: Mapped[Webhook] = relationship(lazy="raise")
