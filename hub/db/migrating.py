"""From any schema to this release's, by Alembic; and the refusal to work on another."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError

import hub
from hub.db.copying import keep_copy
from hub.db.session import Database
from hub.errors import StartRefused

log = logging.getLogger(__name__)

# The newest file in migrations/versions. Known here so that an up-to-date server starts without Alembic.
REVISION = "0029"

# SQLite shares 32 KiB among those who read, and a log beside them.
_LITTLE_BYTES = 1 << 20

_PACKAGE = Path(hub.__file__).parent
# In the wheel the migrations travel inside the package; in a checkout they lie beside it.
_FOLDERS = (_PACKAGE / "_migrations", _PACKAGE.parent / "migrations")


def migrate(database: Database, *, keeps_copy: bool = True, say: Callable[[str], None] | None = None) -> None:
    """Brings the schema to REVISION, in one transaction. Nothing happens when it is there already. `keeps_copy` of an SQLite
    database that has an earlier one, as `keep_copy` does it; `say` hears of what takes long.

    Raises StartRefused when the schema is of a later release, or there is no room for that or for the copy.
    """
    if revision_of(database) == REVISION:
        return
    with _failures_said(database), _connected(database) as connection, connection.begin():
        _wait_for_others(connection)
        before = _revision_on(connection)
        if before == REVISION:
            return
        if before is None:
            _upgrade(connection)
            return
        if not _is_known(before):
            raise _mismatch(before)
        copy = keep_copy(connection, before, say or log.info) if keeps_copy and database.is_sqlite else None
        _upgrade(connection)
    facts = {"before": before, "now": REVISION} | ({"copy": str(copy)} if copy else {})
    log.info("the schema is a later one now, which earlier releases refuse", extra=facts)


def require_current(database: Database) -> None:
    """Raises StartRefused unless the schema is this release's."""
    revision = revision_of(database)
    if revision != REVISION:
        raise _mismatch(revision)


def revision_of(database: Database) -> str | None:
    """The revision of the schema, or None for an empty database. Raises StartRefused when it cannot be read."""
    try:
        with database.engine.connect() as connection:
            return _revision_on(connection)
    except DBAPIError as error:
        if database.is_sqlite:
            raise _not_usable(database, error, "cannot be read") from error
        raise _not_let_in(database, error) from error


def migrations_folder() -> Path:
    return next(folder for folder in _FOLDERS if folder.is_dir())


@contextmanager
def _failures_said(database: Database) -> Iterator[None]:
    """Of an SQLite database: its disk is this machine's, and whoever runs the hub can do something about it."""
    try:
        yield
    except OperationalError as error:
        if not database.is_sqlite:
            raise
        raise _not_usable(database, error, f"was not brought to the schema {REVISION}, and is as it was") from error


def _wait_for_others(connection: Connection) -> None:
    """Until nobody else migrates, however long it takes. On SQLite the transaction that writes has waited already."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        connection.execute(text("SET LOCAL lock_timeout = 0"))
        connection.execute(text("SELECT pg_advisory_xact_lock(7465726168756)"))


def _upgrade(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _connected(database: Database) -> Iterator[Connection]:
    """A connection to migrate on. On SQLite its foreign keys are off: a changed constraint is a new table in
    the old one's place, and dropping the old one would count as deleting what others refer to
    (https://www.sqlite.org/lang_altertable.html, section 7)."""
    with database.engine.execution_options(writes=True).connect() as connection:
        if not database.is_sqlite:
            yield connection
            return
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys = OFF")  # has no effect inside a transaction
        try:
            yield connection
        finally:
            raw.execute("PRAGMA foreign_keys = ON")


def _revision_on(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


def _is_known(revision: str) -> bool:
    return any((migrations_folder() / "versions").glob(f"{revision}_*.py"))


def _mismatch(revision: str | None) -> StartRefused:
    if revision is None:
        what = f"The database has no schema yet, and this release needs {REVISION}: run `vera-hub migrate`."
    elif _is_known(revision):
        what = (
            f"The database has the schema {revision} and this release needs {REVISION}: make a backup, since there is no "
            "way back without one, and run `vera-hub migrate`."
        )
    else:
        what = (
            f"The database has the schema {revision}, of another release than this one, which needs {REVISION}: use that "
            "release, or restore a backup from before the upgrade into an empty place."
        )
    return StartRefused(what, code="SCHEMA_MISMATCH", exit_code=3)


def _not_usable(database: Database, error: DBAPIError, what: str) -> StartRefused:
    folder = Path(str(database.engine.url.database)).parent
    is_full = folder.is_dir() and shutil.disk_usage(folder).free < _LITTLE_BYTES
    advice = (
        "Its disk is full, and it takes a little room even to read: make some there."
        if is_full
        else "Look at who may read and write it; where it is damaged, restore a backup in an empty place."
    )
    return StartRefused(
        f"The database {database.engine.url.database} {what}: {error.orig}. {advice}",
        code="DB_UNAVAILABLE",
        exit_code=6,
    )


def _not_let_in(database: Database, error: DBAPIError) -> StartRefused:
    said = " ".join(str(error.orig).split())
    return StartRefused(
        f"The database {database.engine.url.render_as_string()} cannot be opened: {said} Start its server, or correct "
        "VERA_HUB_DATABASE_URL.",
        code="DB_UNAVAILABLE",
        exit_code=6,
    )
