"""Where the bytes of a blob are kept: small ones in the database, in the transaction that needs them;
large ones in the object store when there is one.

An object is put before the transaction that records it begins, so that no transaction is open while
bytes travel. When that transaction fails, the object is left without a record and nobody can reach it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from hub.db import session as db
from hub.db.queries import blobs
from hub.db.queries.blobs import StoredBlob
from hub.errors import Unavailable
from hub.storage.blobs import BlobStore, missing, proven, sha256_of
from hub.storage.table import TableBlobs

# A commit with a blob of this size is faster than a file beside the database, and never half there.
INLINE_BYTES = 256 * 1024


# How far the clocks of two replicas may be apart.
_LEEWAY = timedelta(seconds=30)


def put_large(objects: BlobStore | None, files: Iterable[bytes]) -> dict[str, datetime]:
    """Puts the large ones of `files` into the object store; gives their hashes, and since when each is surely there."""
    if objects is None:
        return {}
    began = datetime.now(UTC) - _LEEWAY
    return {objects.put(data): began for data in files if len(data) > INLINE_BYTES}


def record(session: Session, data: bytes, outside: Mapping[str, datetime]) -> str:
    """Records the blob and gives its hash. Its bytes are kept in the row unless `outside` names it.

    Raises Unavailable when `admin gc` has taken such an object away since it was put: it must be put again.
    """
    sha256 = sha256_of(data)
    if sha256 not in outside:
        return TableBlobs(session).put(data)
    blobs.insert(session, sha256, len(data), None, at=db.now(session))
    _require_not_removed(session, sha256, outside[sha256])
    return sha256


def record_all(session: Session, found: Mapping[str, bytes], outside: Mapping[str, datetime]) -> None:
    """`record` of several, by their hashes, which the caller has computed."""
    blobs.insert_all(session, found, outside, at=db.now(session))
    for sha256 in found.keys() & outside.keys():
        _require_not_removed(session, sha256, outside[sha256])


def locate(session: Session, sha256: str) -> StoredBlob:
    """The record of a blob, with its bytes when they are in it. Raises NotFound."""
    stored = blobs.find(session, sha256)
    if stored is None:
        raise missing(sha256)
    return stored


def bytes_of(stored: StoredBlob, objects: BlobStore | None) -> bytes:
    """The bytes of a blob, proven to be them. Raises NotFound and BlobCorrupt."""
    if stored.data is not None:
        return proven(stored.sha256, stored.data)
    if objects is None:
        raise missing(stored.sha256)
    return objects.get(stored.sha256)


def _require_not_removed(session: Session, sha256: str, since: datetime) -> None:
    if blobs.was_removed_since(session, sha256, since):
        raise Unavailable("The hub was just clearing that file away: send it again in a minute.", code="HUB_BUSY")
