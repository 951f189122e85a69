"""Bases, adapters, their names and who may see them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.db.models.accounts import Account
from hub.db.models.table import FINGERPRINT, Table
from hub.db.types import JsonText


class Base(Table):
    """A base model. `tensors` is its table as compressed JSON: it is read whole or not at all."""

    __tablename__ = "bases"
    __table_args__ = (Index("ix_bases_name", "name", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(FINGERPRINT, unique=True)
    name: Mapped[str] = mapped_column(String(200))
    revision: Mapped[str | None] = mapped_column(String(200))
    dtype: Mapped[str] = mapped_column(String(16))
    parameters: Mapped[int]
    size_bytes: Mapped[int]
    tensor_count: Mapped[int]
    tensors: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    # None of one that came with an import or from another hub.
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    created_at: Mapped[datetime]


class Adapter(Table):
    """A name that versions are pushed under. Base and task are those of the latest version, or of the newest
    that can be had while none is the latest."""

    __tablename__ = "adapters"
    __table_args__ = (
        UniqueConstraint("account_id", "name"),
        # Names that look alike may not coexist in one namespace.
        UniqueConstraint("account_id", "folded_name"),
        CheckConstraint("gate IN ('auto', 'manual')", name="gate"),
        Index("ix_adapters_updated_at", "updated_at", "id"),
        # Few are private or have a gate: the indexes cost the others nothing.
        Index(
            "ix_adapters_private",
            "account_id",
            sqlite_where=text("is_private = 1"),
            postgresql_where=text("is_private"),
        ),
        Index(
            "ix_adapters_gate", "gate", sqlite_where=text("gate IS NOT NULL"), postgresql_where=text("gate IS NOT NULL")
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(64))
    folded_name: Mapped[str] = mapped_column(String(64))
    # NULL until the first version; queries of adapters join their bases and do not see one without.
    base_id: Mapped[int | None] = mapped_column(ForeignKey("bases.id"), index=True)
    task_kind: Mapped[str | None] = mapped_column(String(64), index=True)
    labels: Mapped[list[str] | None] = mapped_column(JsonText)
    is_private: Mapped[bool] = mapped_column(server_default=false())
    # Whether files are given only to whom has asked ("auto"), or was let in ("manual"); NULL is everybody.
    gate: Mapped[str | None] = mapped_column(String(6))
    # Counts the versions ever made, so that a number is never given twice.
    last_number: Mapped[int]
    # What `latest` means; NULL while no version may be that.
    latest_number: Mapped[int | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    account: Mapped[Account] = relationship(lazy="raise")
    base: Mapped[Base] = relationship(lazy="raise")


class MovedName(Table):
    """A name that an adapter has had. It leads to the adapter, and nobody gets it again while that is there."""

    __tablename__ = "moved_names"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]


class MirroredAdapter(Table):
    """What is known of an adapter of another hub: when that has last said what it is like, and the ETag it gave."""

    __tablename__ = "mirrored_adapters"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"), primary_key=True)
    checked_at: Mapped[datetime]
    # NULL while not all of what it said is here.
    etag: Mapped[str | None] = mapped_column(String(200))


class AccessRequest(Table):
    """Somebody who has asked for the files of a gated adapter, or was let in without, and what became of it."""

    __tablename__ = "access_requests"
    __table_args__ = (CheckConstraint("state IN ('pending', 'accepted', 'rejected')", name="state"),)

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    state: Mapped[str] = mapped_column(String(8))
    # What they have said, and what they were told.
    message: Mapped[str | None] = mapped_column(String(1000))
    reason: Mapped[str | None] = mapped_column(String(1000))
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    decided_by: Mapped[Account | None] = relationship(lazy="raise", foreign_keys=decided_by_id)
