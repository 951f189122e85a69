"""Blob rows."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.db.models import Adapter, Blob, Version, VersionFile
from hub.db.queries.inserting import insert_new


class StoredBlob(NamedTuple):
    """`data` is None when the bytes are in the object store."""

    sha256: str
    data: bytes | None


def insert(session: Session, sha256: str, size_bytes: int, data: bytes | None, *, at: datetime) -> None:
    """Keeps the row of a blob; a second time changes nothing."""
    insert_new(session, Blob, sha256=sha256, size_bytes=size_bytes, data=data, created_at=at)


def find(session: Session, sha256: str) -> StoredBlob | None:
    row = session.execute(select(Blob.sha256, Blob.data).where(Blob.sha256 == sha256)).first()
    return StoredBlob(*row) if row else None


def is_file_of(session: Session, adapter_id: int, sha256: str) -> bool:
    """True when some version of the adapter has a file with this hash."""
    return bool(
        session.scalar(
            select(VersionFile.version_id)
            .join(Version, Version.id == VersionFile.version_id)
            .join(Adapter, Adapter.id == Version.adapter_id)
            .where(Adapter.id == adapter_id, VersionFile.sha256 == sha256)
            .limit(1)
        )
    )
