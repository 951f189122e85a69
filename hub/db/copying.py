"""An SQLite database in one file more: for a backup, and beside itself before it is migrated."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection

from hub.db.folder import fresh_beside, sync, take_away
from hub.errors import HubError, Invalid, StartRefused


def copy_file(source: Path, target: Path) -> None:
    """Copies a database as one moment sees it (https://www.sqlite.org/backup.html). Writers go on: in WAL mode this is a
    reader. Raises Invalid where the copy, and so the database, is damaged."""
    read_only = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(read_only, uri=True)) as old, closing(sqlite3.connect(target)) as new:
        new.execute(
            "PRAGMA locking_mode = EXCLUSIVE"
        )  # what others would share of a log is in memory, and takes no room
        old.backup(new)
        new.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        (verdict,) = new.execute("PRAGMA quick_check").fetchone()
    if verdict != "ok":
        raise Invalid(
            f"The copy of the database is damaged ({verdict}), so the database is: run `vera-hub admin fsck`.",
            code="DATABASE_CORRUPT",
        )


def keep_copy(connection: Connection, revision: str, say: Callable[[str], None]) -> Path:
    """Copies the database of `connection`, which has the schema `revision`, beside itself: `hub-schema-0028.db`, in the place
    of an earlier copy with that schema. `connection` is in a transaction that writes, so that nobody else does meanwhile.

    Raises StartRefused when there is no room for it, or it cannot be made; nothing is left of it then.
    """
    file = Path(str(connection.engine.url.database))
    kept = file.with_name(f"{file.stem}-schema-{revision}{file.suffix}")
    _require_room(connection, kept)
    say(
        f"{file} has the schema {revision} and is copied to {kept} before that is changed, which takes a while if it is large."
    )
    fresh = fresh_beside(kept)
    try:
        fresh.unlink(missing_ok=True)
        fresh.touch(0o600)
        copy_file(file, fresh)
        sync(fresh)
        fresh.replace(kept)
        sync(kept.parent)
    except (HubError, OSError, sqlite3.Error) as error:
        raise _not_copied(file, kept, str(error)) from error
    finally:
        take_away(fresh)
    return kept


def _require_room(connection: Connection, kept: Path) -> None:
    pages, page_bytes = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size")
    )
    free = shutil.disk_usage(kept.parent).free
    if free < pages * page_bytes:
        raise _not_copied(
            Path(str(connection.engine.url.database)),
            kept,
            f"it takes {pages * page_bytes:,} bytes and {free:,} are free",
        )


def _not_copied(file: Path, kept: Path, why: str) -> StartRefused:
    return StartRefused(
        f"{file} was not brought to the schema of this release, since no copy of it could be kept as {kept}: {why}. Make "
        "room and start again; or make a backup elsewhere (`vera-hub admin backup`), and then `vera-hub migrate --no-copy`.",
        code="COPY_FAILED",
        exit_code=7,
    )
