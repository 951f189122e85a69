"""`admin fsck`: is everything there, and is it what it was? Reads, and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text

from hub.db.queries import keeping
from hub.db.queries.blobs import StoredBlob
from hub.db.queries.keeping import BlobRow
from hub.db.session import Database
from hub.domain import audit, blobs
from hub.errors import BlobCorrupt, NotFound
from hub.storage.objects import ObjectBlobs
from vera.manifest import MANIFEST_FILE

Kind = Literal["missing", "corrupt", "orphan"]
# Short transactions: a long one would keep a database in use from clearing its log.
_AT_ONCE = 100


@dataclass(frozen=True)
class Finding:
    """What is wrong with something. An orphan harms nobody: `admin gc` takes it away."""

    kind: Kind
    what: str
    detail: str


def check(database: Database, objects: ObjectBlobs | None) -> Iterator[Finding]:
    """Everything that is wrong, found by reading every byte once."""
    yield from _check_database(database)
    yield from _check_blobs(database, objects)
    yield from _check_versions(database)
    yield from _check_projections(database, objects)
    if objects is not None:
        yield from _check_objects(database, objects)
    with database.reading() as session:
        yield from (Finding("corrupt", "record", sentence) for sentence in audit.broken_chains(session))


def _check_database(database: Database) -> Iterator[Finding]:
    """What SQLite says of its own file. PostgreSQL looks after its pages itself."""
    if not database.is_sqlite:
        return
    with database.reading() as session:
        for (line,) in session.execute(text("PRAGMA integrity_check")):
            if line != "ok":
                yield Finding("corrupt", "database", str(line))
        for row in session.execute(text("PRAGMA foreign_key_check")):
            yield Finding("missing", f"table {row[0]}", f"row {row[1]} refers to a row of {row[2]} that is not there")


def _check_blobs(database: Database, objects: ObjectBlobs | None) -> Iterator[Finding]:
    after = ""
    while True:
        with database.reading() as session:
            rows = keeping.blobs_after(session, after, limit=_AT_ONCE)
        if not rows:
            return
        for row in rows:
            yield from _check_blob(row, objects)
        after = rows[-1].sha256


def _check_blob(row: BlobRow, objects: ObjectBlobs | None) -> Iterator[Finding]:
    what = f"blob {row.sha256}"
    try:
        data = blobs.bytes_of(StoredBlob(row.sha256, row.data), objects)
    except BlobCorrupt:
        yield Finding("corrupt", what, "its bytes have another hash")
    except NotFound:
        yield Finding("missing", what, "it is recorded, and its object is not there")
    else:
        if len(data) != row.size_bytes:
            yield Finding("corrupt", what, f"it has {len(data)} bytes and should have {row.size_bytes}")
    if not row.is_needed:
        yield Finding("orphan", what, f"nothing refers to its {row.size_bytes} bytes")


def _check_versions(database: Database) -> Iterator[Finding]:
    after = 0
    while True:
        with database.reading() as session:
            rows = keeping.manifests(session, after, MANIFEST_FILE, limit=_AT_ONCE)
        if not rows:
            return
        for after, row in rows:  # noqa: B007  # goes on after the last one
            what = f"v{row.number} of adapter {row.adapter_id}"
            if row.sha256 is None:
                yield Finding("missing", what, f"it has no {MANIFEST_FILE}")
            elif row.digest != f"sha256:{row.sha256}":
                yield Finding("corrupt", what, f"its digest is {row.digest} and its manifest's {row.sha256}")


def _check_projections(database: Database, objects: ObjectBlobs | None) -> Iterator[Finding]:
    with database.reading() as session:
        pairs = keeping.projections(session)
    for digest, pieces in pairs:
        found = hashlib.sha256()
        try:
            for piece in pieces:
                with database.reading() as session:
                    stored = blobs.locate(session, piece)
                found.update(blobs.bytes_of(stored, objects))
        except (BlobCorrupt, NotFound):
            continue  # said of the blob already
        if digest != f"sha256:{found.hexdigest()}":
            yield Finding("corrupt", f"projection {digest}", "its pieces make another one")


def _check_objects(database: Database, objects: ObjectBlobs) -> Iterator[Finding]:
    for stored in objects.stored():
        with database.reading() as session:
            is_known = bool(keeping.names_of(session, [stored.sha256]))
        if not is_known:
            yield Finding("orphan", f"object {stored.sha256}", f"no blob is recorded for its {stored.size_bytes} bytes")
