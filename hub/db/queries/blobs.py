"""Blob rows."""

from __future__ import annotations

from collections.abc import Container, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from hub.db.models.objects import Blob, RemovedObject
from hub.db.models.versions import Version, VersionFile
from hub.db.queries.inserting import insert_new, insert_quietly
from hub.db.queries.versions import is_served

_BLOBS = Blob.__table__.c
# Made once, and mostly of columns alone: a statement that is made anew, or gives entities, takes several times as long.
_OF_HASH = _BLOBS.sha256 == bindparam("sha256")
_HELD = select(_BLOBS.sha256).where(_OF_HASH).with_for_update(read=True, key_share=True)
_ALL_HELD = (
    select(_BLOBS.sha256)
    .where(_BLOBS.sha256.in_(bindparam("hashes", expanding=True)))
    .with_for_update(read=True, key_share=True)
)
_FOUND = select(_BLOBS.sha256, _BLOBS.data).where(_OF_HASH)
_FILES = VersionFile.__table__.c
_OF_VERSION = (
    select(_FILES.path, _BLOBS.sha256, _BLOBS.data)
    .join(Blob.__table__, _BLOBS.sha256 == _FILES.sha256)
    .where(_FILES.version_id == bindparam("version_id"))
)
_HOLDERS = (
    select(Version.id, Version.created_by_id, Version.fetched_at, VersionFile.path)
    .join(VersionFile, VersionFile.version_id == Version.id)
    .where(Version.adapter_id == bindparam("adapter_id"), VersionFile.sha256 == bindparam("sha256"), is_served())
)


class StoredBlob(NamedTuple):
    """`data` is None when the bytes are in the object store."""

    sha256: str
    data: bytes | None


class Holder(NamedTuple):
    """A version that has a file, and what it calls it. `fetched_at` is None until somebody else than its author has fetched it."""

    version_id: int
    created_by_id: int
    fetched_at: datetime | None
    path: str


def insert_all(session: Session, found: Mapping[str, bytes], outside: Container[str], *, at: datetime) -> None:
    """`insert` of several by their hashes, in one statement; of those `outside` the bytes are kept elsewhere."""
    rows = [
        {
            "sha256": sha256,
            "size_bytes": len(data),
            "data": None if sha256 in outside else data,
            "created_at": at,
        }
        for sha256, data in found.items()
    ]
    insert_quietly(session, Blob, rows)
    if session.get_bind().dialect.name == "sqlite":
        return  # where nobody else writes until the transaction ends
    held = set(session.scalars(_ALL_HELD, {"hashes": list(found)}))
    for row in rows:
        if row["sha256"] not in held:
            _hold(session, row)


def insert(session: Session, sha256: str, size_bytes: int, data: bytes | None, *, at: datetime) -> None:
    """Keeps the row of a blob; a second time changes nothing. From then on it stays until the transaction ends."""
    row = {"sha256": sha256, "size_bytes": size_bytes, "data": data, "created_at": at}
    if not insert_new(session, Blob, **row):
        _hold(session, row)


def _hold(session: Session, row: Mapping[str, Any]) -> None:
    """Has the row, which was there a moment ago, stay until the transaction ends."""
    while session.scalar(_HELD, {"sha256": row["sha256"]}) is None:
        if insert_new(session, Blob, **row):  # `delete_unreferenced` came between
            return


def find(session: Session, sha256: str) -> StoredBlob | None:
    row = session.execute(_FOUND, {"sha256": sha256}).first()
    return StoredBlob(*row) if row else None


def find_of_version(session: Session, version_id: int) -> dict[str, StoredBlob]:
    """The blobs of all files of a version, by path."""
    found = session.execute(_OF_VERSION, {"version_id": version_id})
    return {path: StoredBlob(sha256, data) for path, sha256, data in found}


def was_removed_since(session: Session, sha256: str, at: datetime) -> bool:
    """True when the object is being taken out of the object store, or was after that moment."""
    removed = RemovedObject.removed_at.is_(None) | (RemovedObject.removed_at > at)
    return session.scalar(select(RemovedObject.sha256).where(RemovedObject.sha256 == sha256, removed)) is not None


def holders(session: Session, adapter_id: int, sha256: str) -> list[Holder]:
    """The versions of the adapter that have a file with this hash and can be had."""
    return [Holder(*row) for row in session.execute(_HOLDERS, {"adapter_id": adapter_id, "sha256": sha256})]
