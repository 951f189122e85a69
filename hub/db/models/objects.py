"""What is in blob storage, and who holds it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    LargeBinary,
)
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.models.table import DIGEST, SHA256, Table


class Blob(Table):
    """Bytes by their hash. `data` is NULL when they live in the object store."""

    __tablename__ = "blobs"
    __table_args__ = (CheckConstraint("data IS NULL OR length(data) = size_bytes", name="whole"),)

    sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    size_bytes: Mapped[int]
    data: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[datetime]


class Projection(Table):
    """A pair of matrices that follows no recipe, kept once for every adapter that uses it. `digest` is the
    SHA-256 of its bytes, which are those of its pieces one after the other."""

    __tablename__ = "projections"

    digest: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    size_bytes: Mapped[int]
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]


class ProjectionHolder(Table):
    """Who has shown a stored projection, byte by byte: knowing its digest is not having it."""

    __tablename__ = "projection_holders"

    digest: Mapped[str] = mapped_column(ForeignKey("projections.digest"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)


class ProjectionPiece(Table):
    """A part of a stored projection: a blob of a size that a request can hold in memory."""

    __tablename__ = "projection_pieces"

    digest: Mapped[str] = mapped_column(ForeignKey("projections.digest"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class RemovedObject(Table):
    """An object that `admin gc` is taking out of the object store, or has taken lately. A push that has put the same
    bytes before `removed_at` must put them again."""

    __tablename__ = "removed_objects"

    sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    removed_at: Mapped[datetime | None]
