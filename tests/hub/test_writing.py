"""Writing to SQLite: one at a time, and nobody who waits keeps whoever writes from going on."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path

import anyio.to_thread
import httpx2
import pytest
from sqlalchemy import select

from hub.db.models.accounts import Account
from hub.db.session import Database
from hub.domain import accounts
from hub.errors import Unavailable
from tests.builders import make_archive
from tests.hub.harness import URL, Hub, migrated_database

THREADS = 3


@pytest.fixture
def database(tmp_path: Path) -> Database:
    file = tmp_path / "hub.db"
    file.write_bytes(migrated_database())
    return Database(f"sqlite:///{file}")


def test_who_has_the_turn_needs_no_further_thread(sqlite_hub: Hub) -> None:
    """More writes at once than there are threads, each of which would wait for its turn in one."""
    headers = sqlite_hub.headers()
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive(), "tiny", headers=headers)

    async def change_all() -> Counter[int]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        transport = httpx2.ASGITransport(app=sqlite_hub.app)
        async with httpx2.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
            bodies = [{"visibility": ("private", "public")[number % 2]} for number in range(3 * THREADS)]
            answers = [client.patch("/api/v1/adapters/demo/tiny", json=body) for body in bodies]
            return Counter(answer.status_code for answer in await asyncio.gather(*answers))

    assert asyncio.run(change_all()) == {200: 3 * THREADS}


def test_closing_waits_for_who_writes(database: Database) -> None:
    writes = threading.Event()

    def write() -> None:
        with database.writing() as session:
            writes.set()
            time.sleep(0.2)
            accounts.ensure_user(session, "rita")

    closing = threading.Thread(target=database.close)
    writing = threading.Thread(target=write)
    writing.start()
    assert writes.wait(10)
    closing.start()
    writing.join(), closing.join()

    with database.reading() as session:
        assert list(session.scalars(select(Account.name))) == ["rita"]
    database.close()


def test_a_commit_that_was_refused_is_in_nobodys_way(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        raise error

    with database.writing() as session:
        accounts.ensure_user(session, "first")
    with monkeypatch.context() as changed:
        changed.setattr(database.engine.dialect, "do_commit", refuse)
        with pytest.raises(Unavailable), database.writing() as session:
            accounts.ensure_user(session, "refused")
    with database.writing() as session:
        accounts.ensure_user(session, "later")

    with database.reading() as session:
        assert set(session.scalars(select(Account.name))) == {"first", "later"}
    database.close()


def test_a_disk_without_a_write_ahead_log_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutLog(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            return super().execute(sql.replace("journal_mode = WAL", "journal_mode"), *values)

    connect = sqlite3.connect
    monkeypatch.setattr(
        "sqlite3.dbapi2.connect", lambda *given, **named: connect(*given, **{**named, "factory": WithoutLog})
    )
    database = Database(f"sqlite:///{tmp_path / 'hub.db'}")
    with (
        pytest.raises(Unavailable, match=r"no write-ahead log beside .*hub.db .*'delete'"),
        database.reading() as session,
    ):
        session.connection()
    database.close()
