"""`admin backup` and `admin restore`: the whole hub as a folder, while it goes on working.

The database is copied first, as one moment sees it, and then the objects that this copy names: objects never
change, and `admin gc` leaves new ones alone. `backup.json` comes last and holds the hash of every file.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from sqlalchemy import Connection, select, text

from hub.care import files, rows
from hub.db.copying import copy_file
from hub.db.folder import fresh_beside, prepare_folder, sole_use_of, sync, take_away
from hub.db.migrating import REVISION, migrate, require_current, revision_of
from hub.db.models.accounts import Account
from hub.db.models.objects import Blob
from hub.db.session import Database
from hub.errors import Conflict, Invalid
from hub.settings import DATABASE_FILE, Settings
from hub.storage.objects import ObjectBlobs

FORMAT = 1
CONTENTS = "backup.json"
ROWS, OBJECTS = "rows", "objects"
# What SQLite calls what it has not written into a database yet.
_LOGS = ("-wal", "-journal")
Kind = Literal["sqlite", "rows"]


@dataclass(frozen=True)
class Contents:
    """What a backup holds. `files` are paths in its folder with their SHA-256; `revision` is the schema's."""

    kind: Kind
    revision: str
    created_at: str
    files: dict[str, str]
    format: int = FORMAT


def back_up(database: Database, objects: ObjectBlobs | None, folder: Path, *, is_portable: bool = False) -> Contents:
    """Copies the hub into `folder`, which appears when the copy is whole. `is_portable` spells the rows of an SQLite
    database too, so that another database can read them. Raises Conflict when there is such a folder, and StartRefused
    when rows are to be spelled and the schema is not this release's."""
    if folder.exists():
        raise Conflict(f"{folder} is there already: name a new folder.", code="BACKUP_EXISTS")
    kind: Kind = "sqlite" if database.is_sqlite and not is_portable else "rows"
    if kind == "rows":
        require_current(database)
    fresh = fresh_beside(folder)
    prepare_folder(fresh)
    try:
        contents = _fill(database, objects, fresh, kind)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    fresh.rename(folder)
    sync(folder.parent)
    return contents


def check(folder: Path) -> Contents:
    """What the backup holds, once every file of it is proven. Raises Invalid."""
    try:
        contents = Contents(**json.loads((folder / CONTENTS).read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise Invalid(
            f"{folder} is no backup: it has no {CONTENTS} that can be read.", code="BACKUP_INVALID"
        ) from error
    if contents.format != FORMAT:
        raise Invalid(
            f"{folder} is a backup of the format {contents.format} and this release reads {FORMAT}: use the release "
            "that made it.",
            code="BACKUP_INVALID",
        )
    for path, sha256 in contents.files.items():
        files.require(folder / path, sha256)
    return contents


def restore(folder: Path, settings: Settings) -> Contents:
    """Makes the hub of these settings, of which there is nothing yet, what the backup holds.

    Raises Invalid for a damaged backup, or one that does not fit, and Conflict where something is there already.
    """
    contents = check(folder)
    objects = [path for path in contents.files if path.startswith(f"{OBJECTS}/")]
    if objects and settings.blob_url is None:
        raise Invalid(
            f"The backup holds {len(objects)} objects: say with VERA_HUB_BLOB_URL where they go.", code="BACKUP_INVALID"
        )
    if settings.blob_url is not None:
        store = ObjectBlobs.from_url(settings.blob_url)
        for path in objects:
            store.put((folder / path).read_bytes())
    (_restore_file if contents.kind == "sqlite" else _restore_rows)(folder, contents, settings)
    return contents


def _fill(database: Database, objects: ObjectBlobs | None, folder: Path, kind: Kind) -> Contents:
    revision = revision_of(database) or ""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if kind == "sqlite":
        needed = _copy_file(database, folder / DATABASE_FILE)
        written = [folder / DATABASE_FILE]
    else:
        with _one_moment(database) as connection:
            written = rows.write(connection, folder / ROWS)
            needed = _outside(connection)
    written += [_copy_object(objects, sha256, folder) for sha256 in needed]
    for path in written:
        sync(path)
    digests = {str(path.relative_to(folder)): files.digest_of(path) for path in written}
    contents = Contents(kind, revision, now, digests)
    files.keep(folder / CONTENTS, json.dumps(asdict(contents), indent=1).encode())
    for each in {folder, *(path.parent for path in written)}:
        sync(each)
    return contents


def _copy_file(database: Database, target: Path) -> list[str]:
    """Copies an SQLite database, and gives the hashes of the blobs that are not in it."""
    copy_file(Path(str(database.engine.url.database)), target)
    with closing(sqlite3.connect(target)) as copy:
        return [sha256 for (sha256,) in copy.execute("SELECT sha256 FROM blobs WHERE data IS NULL ORDER BY sha256")]


def _copy_object(objects: ObjectBlobs | None, sha256: str, folder: Path) -> Path:
    if objects is None:
        raise Invalid(
            f"The blob {sha256} is in an object store: say with VERA_HUB_BLOB_URL in which.", code="BACKUP_INVALID"
        )
    path = folder / OBJECTS / sha256[:2] / sha256
    files.keep(path, objects.get(sha256))
    return path


@contextmanager
def _one_moment(database: Database) -> Iterator[Connection]:
    """A connection that sees one moment, for as long as it takes."""
    engine = (
        database.engine if database.is_sqlite else database.engine.execution_options(isolation_level="REPEATABLE READ")
    )
    with engine.connect() as connection, connection.begin():
        if not database.is_sqlite:
            connection.execute(text("SET LOCAL statement_timeout = 0"))
        yield connection


def _outside(connection: Connection) -> list[str]:
    return list(connection.scalars(select(Blob.sha256).where(Blob.data.is_(None)).order_by(Blob.sha256)))


def _restore_file(folder: Path, contents: Contents, settings: Settings) -> None:
    if not settings.is_embedded:
        raise Invalid(
            "This is a backup of an SQLite database, and the hub is to be on another: make the backup with --portable.",
            code="BACKUP_INVALID",
        )
    with _use_of(settings):
        target = settings.data_dir / DATABASE_FILE
        if target.exists():
            raise _is_in_use(str(target))
        fresh = fresh_beside(target)
        try:
            shutil.copyfile(folder / DATABASE_FILE, fresh)
            fresh.chmod(0o600)
            files.require(fresh, contents.files[DATABASE_FILE])
            sync(fresh)
            fresh.rename(target)
        finally:
            take_away(fresh)
        sync(settings.data_dir)


def _restore_rows(folder: Path, contents: Contents, settings: Settings) -> None:
    if contents.revision != REVISION:
        raise Invalid(
            f"The backup has the schema {contents.revision} and this release {REVISION}: restore it with the release "
            "that made it, and then run `vera-hub migrate` of this one.",
            code="BACKUP_INVALID",
        )
    with _use_of(settings):
        database = Database(settings.resolved_database_url)
        with closing(database):
            migrate(database)
            with database.engine.execution_options(writes=True).begin() as connection:
                if connection.scalar(select(Account.id).limit(1)) is not None:
                    raise _is_in_use(database.engine.url.render_as_string())
                if not database.is_sqlite:
                    connection.execute(text("SET LOCAL statement_timeout = 0"))
                rows.read(connection, folder / ROWS)


@contextmanager
def _use_of(settings: Settings) -> Iterator[None]:
    if not settings.is_embedded:
        yield
        return
    with sole_use_of(settings.data_dir):
        _require_no_remains(settings.data_dir / DATABASE_FILE)
        yield


def _require_no_remains(file: Path) -> None:
    """Raises Conflict for the log of a database that was moved away without it: SQLite writes such a one into whatever
    database it finds beside it (https://www.sqlite.org/howtocorrupt.html, section 1.4)."""
    left = [each for each in (Path(f"{file}{suffix}") for suffix in _LOGS) if each.exists()]
    if left and not file.exists():
        raise Conflict(
            f"{left[0]} is the log of a database that is not beside it any more, and would be written into the restored "
            "one: move it to where that database is, since it may hold the last changes of it.",
            code="RESTORE_OVER_HUB",
            path=str(left[0]),
        )


def _is_in_use(place: str) -> Conflict:
    return Conflict(
        f"There is a hub in {place} already, and a backup is never restored over one: choose another place, or move "
        "that one away.",
        code="RESTORE_OVER_HUB",
    )
