"""Blobs as an operator sees them: all of them, which of them nothing refers to, and those that go."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, select, update
from sqlalchemy.orm import Session

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter
from hub.db.models.objects import Blob, Projection, ProjectionHolder, ProjectionPiece, RemovedObject
from hub.db.models.table import Table
from hub.db.models.versions import Version, VersionFile
from hub.db.queries.inserting import insert_new
from hub.db.queries.versions import is_current


class BlobRow(NamedTuple):
    """`data` is None when the bytes are in the object store; `is_needed` when something refers to the blob."""

    sha256: str
    size_bytes: int
    data: bytes | None
    is_needed: bool


class ManifestRow(NamedTuple):
    """A version and the hash of its manifest's file, None when it has no such file."""

    adapter_id: int
    number: int
    digest: str
    sha256: str | None


class HeadRow(NamedTuple):
    """What an adapter says of its versions, and what they are."""

    adapter_id: int
    last_number: int
    latest_number: int | None
    newest: int | None
    newest_current: int | None


class PairRow(NamedTuple):
    """A stored projection, and of how many pieces it is."""

    digest: str
    size_bytes: int
    pieces: int


def blobs_after(session: Session, sha256: str, *, limit: int) -> list[BlobRow]:
    """Blobs in the order of their hashes, those beyond `sha256`."""
    query = select(Blob.sha256, Blob.size_bytes, Blob.data, _is_needed()).where(Blob.sha256 > sha256)
    return [BlobRow(*row) for row in session.execute(query.order_by(Blob.sha256).limit(limit))]


def unneeded(session: Session, before: datetime) -> list[BlobRow]:
    """Blobs from before that moment that nothing refers to, without their bytes."""
    rows = session.execute(_unneeded(before))
    return [BlobRow(sha256, size, None if is_outside else b"", False) for sha256, size, is_outside in rows]


def hold_unneeded(session: Session, before: datetime, *, limit: int) -> list[BlobRow]:
    """Some of `unneeded`, locked; without those that a push holds."""
    rows = session.execute(_unneeded(before).limit(limit).with_for_update(of=Blob, skip_locked=True))
    return [BlobRow(sha256, size, None if is_outside else b"", False) for sha256, size, is_outside in rows]


def delete_unneeded(session: Session, sha256s: Sequence[str]) -> list[str]:
    """Deletes the rows, which `hold_unneeded` has locked, and gives those that are gone: a reference may have come between."""
    gone = delete(Blob).where(Blob.sha256.in_(sha256s), ~_is_needed()).returning(Blob.sha256)
    return list(session.scalars(gone))


def unused_pairs(session: Session, before: datetime) -> list[PairRow]:
    """Stored projections from before that moment that no version uses."""
    return [PairRow(*row) for row in session.execute(_unused_pairs(before))]


def delete_unused_pairs(session: Session, before: datetime, *, limit: int) -> int:
    """Deletes some of `unused_pairs`, without those that a push holds, and says how many; their pieces are then
    blobs that nothing needs."""
    held = _unused_pairs(before).limit(limit).with_for_update(of=Projection, skip_locked=True)
    digests = [row.digest for row in session.execute(held)]
    # Looked at again now that they are locked: a version may have come between.
    unused = select(Projection.digest).where(Projection.digest.in_(digests), ~_is_used())
    gone = list(session.scalars(unused))
    for table in (ProjectionHolder, ProjectionPiece, Projection):
        session.execute(delete(table).where(table.digest.in_(gone)))
    return len(gone)


def names_of(session: Session, sha256s: Sequence[str]) -> set[str]:
    """Those of the hashes that a blob has."""
    return set(session.scalars(select(Blob.sha256).where(Blob.sha256.in_(sha256s))))


def adopt(session: Session, sha256: str, size_bytes: int, *, at: datetime) -> None:
    """Gives an object without a row a row that nothing refers to."""
    insert_new(session, Blob, sha256=sha256, size_bytes=size_bytes, data=None, created_at=at)


def note_removing(session: Session, sha256s: Sequence[str]) -> None:
    """Notes that these objects are about to go."""
    session.execute(delete(RemovedObject).where(RemovedObject.sha256.in_(sha256s)))
    if sha256s:
        session.execute(insert(RemovedObject), [{"sha256": each, "removed_at": None} for each in sha256s])


def note_removed(session: Session, sha256: str, *, at: datetime) -> None:
    session.execute(update(RemovedObject).where(RemovedObject.sha256 == sha256).values(removed_at=at))


def being_removed(session: Session) -> list[str]:
    return list(session.scalars(select(RemovedObject.sha256).where(RemovedObject.removed_at.is_(None))))


def forget_removed(session: Session, before: datetime) -> None:
    session.execute(delete(RemovedObject).where(RemovedObject.removed_at < before))


def manifests(session: Session, after: int, path: str, *, limit: int) -> list[tuple[int, ManifestRow]]:
    """Versions by id, those beyond `after`; without the deleted ones, which have no files."""
    query = (
        select(Version.id, Version.adapter_id, Version.number, Version.digest, VersionFile.sha256)
        .outerjoin(VersionFile, (VersionFile.version_id == Version.id) & (VersionFile.path == path))
        .where(Version.id > after, Version.deleted_at.is_(None))
    )
    rows = session.execute(query.order_by(Version.id).limit(limit))
    return [(row[0], ManifestRow(*row[1:])) for row in rows]


def files_of_each(session: Session, version_ids: Collection[int]) -> dict[int, dict[str, str]]:
    """The hashes of the files of these versions, by path."""
    found: dict[int, dict[str, str]] = {each: {} for each in version_ids}
    for row in session.scalars(select(VersionFile).where(VersionFile.version_id.in_(version_ids))):
        found[row.version_id][row.path] = row.sha256
    return found


def heads(session: Session, after: int, *, limit: int) -> list[HeadRow]:
    """Adapters by id, those beyond `after`; without the copies of other hubs' adapters, of which some versions are here."""
    newest = select(func.max(Version.number)).where(Version.adapter_id == Adapter.id)
    query = (
        select(
            Adapter.id,
            Adapter.last_number,
            Adapter.latest_number,
            newest.scalar_subquery(),
            newest.where(is_current()).scalar_subquery(),
        )
        .join(Account, Account.id == Adapter.account_id)
        .where(Adapter.id > after, Account.mirrored_from.is_(None))
    )
    return [HeadRow(*row) for row in session.execute(query.order_by(Adapter.id).limit(limit))]


def projections(session: Session) -> list[tuple[str, list[str]]]:
    """Each stored projection, and the hashes of its pieces in order."""
    digests = session.scalars(select(Projection.digest).order_by(Projection.digest))
    pieces = select(ProjectionPiece.sha256).order_by(ProjectionPiece.number)
    return [(each, list(session.scalars(pieces.where(ProjectionPiece.digest == each)))) for each in digests]


def outside(session: Session) -> list[str]:
    """The hashes of all blobs whose bytes are in the object store."""
    return list(session.scalars(select(Blob.sha256).where(Blob.data.is_(None)).order_by(Blob.sha256)))


def _unneeded(before: datetime) -> Select[str, int, bool]:
    query = select(Blob.sha256, Blob.size_bytes, Blob.data.is_(None))
    return query.where(~_is_needed(), Blob.created_at < before).order_by(Blob.sha256)


def _unused_pairs(before: datetime) -> Select[str, int, int]:
    pieces = select(func.count()).where(ProjectionPiece.digest == Projection.digest).scalar_subquery()
    query = select(Projection.digest, Projection.size_bytes, pieces)
    return query.where(~_is_used(), Projection.created_at < before).order_by(Projection.digest)


def _is_used() -> ColumnElement[bool]:
    return exists().where(Version.stored_projection == Projection.digest)


def _is_needed() -> ColumnElement[bool]:
    """Whether any column that refers to blobs refers to this one: found in the schema, so that none is forgotten."""
    foreign_keys = (each for table in Table.metadata.sorted_tables for each in table.foreign_keys)
    referring = [each.parent for each in foreign_keys if each.target_fullname == "blobs.sha256"]
    found = [exists().where(each == Blob.sha256) for each in referring]
    clause: ColumnElement[bool] = found[0]
    for each in found[1:]:
        clause = clause | each
    return clause
