"""`admin fsck`: is everything there, and is it what it was? Reads, and changes nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from hub.db.queries import keeping
from hub.db.queries.blobs import StoredBlob
from hub.db.queries.keeping import BlobRow
from hub.db.session import Database
from hub.domain import audit, blobs
from hub.errors import BlobCorrupt, NotFound
from hub.storage.objects import ObjectBlobs
from hub.storage.table import TableBlobs
from vera.errors import VeraError
from vera.manifest import MANIFEST_FILE, WEIGHTS_FILE, Manifest

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
    yield from _check_heads(database)
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
            files = keeping.files_of_each(session, [version_id for version_id, _ in rows])
            named = {version_id: _named_in(session, row.sha256) for version_id, row in rows}
        if not rows:
            return
        for after, row in rows:
            what = f"v{row.number} of adapter {row.adapter_id}"
            if row.sha256 is None:
                yield Finding("missing", what, f"it has no {MANIFEST_FILE}")
            elif row.digest != f"sha256:{row.sha256}":
                yield Finding("corrupt", what, f"its digest is {row.digest} and its manifest's {row.sha256}")
            elif files[after]:  # it was deleted just now, otherwise
                yield from _check_files(what, named[after], files[after])


def _named_in(session: Session, sha256: str | None) -> Mapping[str, str]:
    """The files that a manifest names, with their hashes; none where it cannot be read, which is said of its blob."""
    if sha256 is None:
        return {}
    try:
        manifest = Manifest.from_bytes(TableBlobs(session).get(sha256))
    except (BlobCorrupt, NotFound, VeraError):
        return {}
    return {WEIGHTS_FILE: manifest.weights.sha256, **{path: each.sha256 for path, each in manifest.files.items()}}


def _check_files(what: str, named: Mapping[str, str], files: Mapping[str, str]) -> Iterator[Finding]:
    for path, sha256 in sorted(named.items()):
        if path not in files:
            yield Finding("missing", what, f"it has no {path}, which its manifest names")
        elif files[path] != sha256:
            yield Finding("corrupt", what, f"its {path} is {files[path]} and its manifest says {sha256}")


def _check_heads(database: Database) -> Iterator[Finding]:
    """Whether each adapter knows what its versions are: which is the latest, and which number is the next one's."""
    after = 0
    while True:
        with database.reading() as session:
            rows = keeping.heads(session, after, limit=_AT_ONCE)
        if not rows:
            return
        for row in rows:
            what = f"adapter {row.adapter_id}"
            if row.latest_number != row.newest_current:
                yield Finding("corrupt", what, f"`latest` means {row.latest_number} and should be {row.newest_current}")
            if row.last_number < (row.newest or 0):
                yield Finding("corrupt", what, f"it has counted {row.last_number} versions and has v{row.newest}")
        after = rows[-1].adapter_id


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
