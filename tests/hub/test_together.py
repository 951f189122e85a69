"""Those who wait for the same turn to write share a transaction, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, event, select
from sqlalchemy.orm import Session

from hub.db import session as db
from hub.db.models.accounts import Account
from hub.db.prepared import driver_of
from hub.db.queries.inserting import insert_numbered
from hub.db.session import Database
from hub.db.together import _MOST as MOST
from hub.db.together import _Job as Job
from hub.errors import Conflict, Unavailable
from tests.hub.harness import Hub

AT = datetime(2030, 1, 1, tzinfo=UTC)
Work = Callable[[Session], Any]


def test_what_one_raises_takes_back_what_that_one_has_done(sqlite_hub: Hub) -> None:
    names = [f"user-{number}" for number in range(5)]
    works = [adding(name) for name in names]
    works[1] = adding(names[1], then=refuse)
    works[3] = adding(names[3], then=fail)

    with transactions_of(sqlite_hub.database) as begun:
        answers = written_at_once(sqlite_hub.database, works)

    assert [type(answer.exception()) for answer in answers] == [
        type(None),
        Conflict,
        type(None),
        ZeroDivisionError,
        type(None),
    ]
    assert users_in(sqlite_hub.database) == {names[0], names[2], names[4]}
    assert len(begun) == 1 + 1  # of who held the turn, and of all who waited


def test_each_is_answered_with_what_it_did(sqlite_hub: Hub) -> None:
    names = [f"user-{number}" for number in range(30)]
    answers = written_at_once(sqlite_hub.database, [adding(name) for name in names])

    with sqlite_hub.database.reading() as session:
        ids = {row.name: row.id for row in session.execute(select(Account.name, Account.id))}
    assert [answer.result() for answer in answers] == [ids[name] for name in names]


@pytest.mark.timeout(10)  # without the loop it waits for itself, for ever
def test_who_is_first_and_came_last_writes_until_it_is_its_own_turn(sqlite_hub: Hub) -> None:
    """Whoever gets hold of the turn writes, and before it in the queue there may be more than one transaction takes."""
    database, together = sqlite_hub.database, sqlite_hub.database._together
    names = [f"user-{number}" for number in range(2 * MOST + 1)]
    before = [Job(adding(name)) for name in names[:-1]]
    together._waiting.extend(before)

    with transactions_of(database) as begun:
        assert database.write(adding(names[-1])) is not None

    assert len(begun) == 3
    assert all(job.answer.result(0) for job in before)
    assert users_in(database) == set(names)


def test_each_sees_what_those_before_it_have_done(sqlite_hub: Hub) -> None:
    answers = written_at_once(sqlite_hub.database, [adding("rita")] * 6)

    assert sorted(answer.result() is None for answer in answers) == [False] + 5 * [True]


def test_where_sqlite_takes_everything_back_nobody_is_told_that_it_was_kept(sqlite_hub: Hub) -> None:
    def take_back(session: Session) -> None:
        driver_of(session).rollback()
        raise ZeroDivisionError

    works = [adding("first"), adding("kept"), adding("lost", then=take_back), adding("after")]
    answers = written_at_once(sqlite_hub.database, works)

    told = {
        name for name, answer in zip(("first", "kept", "lost", "after"), answers, strict=True) if not answer.exception()
    }
    assert told == users_in(sqlite_hub.database)
    assert "lost" not in told


def test_nobody_waits_longer_than_for_a_turn(sqlite_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.1)
    database = sqlite_hub.database
    with ThreadPoolExecutor(3) as pool, database.writing():
        answers = [pool.submit(database.write, adding(f"user-{number}")) for number in range(3)]
        refused = [answer.exception(5) for answer in answers]

    assert [(type(error), getattr(error, "code", "")) for error in refused] == 3 * [(Unavailable, "DB_BUSY")]
    assert database.write(adding("later")) is not None
    assert users_in(database) == {"later"}


def test_who_has_waited_too_long_for_whoever_is_first_is_written_by_nobody(
    sqlite_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "BUSY_TIMEOUT_S", 0.1)
    database = sqlite_hub.database
    with database._together._first, pytest.raises(Unavailable):
        database.write(adding("early"))

    assert database.write(adding("later")) is not None
    assert users_in(database) == {"later"}


def adding(name: str, *, then: Callable[[Session], None] | None = None) -> Work:
    """Adds a user and gives their id, None when there is one."""

    def work(session: Session) -> Any:
        added = insert_numbered(session, Account, name=name, kind="user", created_at=AT)
        if then is not None:
            then(session)
        return added

    return work


def refuse(_: Session) -> None:
    raise Conflict("No.", code="NO")


def fail(_: Session) -> None:
    raise ZeroDivisionError


def written_at_once(database: Database, works: Sequence[Work]) -> list[Future[Any]]:
    """What came of each of them, all of which have waited for a turn that somebody else had."""
    with ThreadPoolExecutor(len(works)) as pool:
        with database.writing():
            answers = []
            for work in works:
                answers.append(pool.submit(database.write, work))
                while len(database._together._waiting) < len(answers) - 1:  # the first has taken its own in hand
                    time.sleep(0.001)
        for answer in answers:
            answer.exception(10)
        return answers


@contextmanager
def transactions_of(database: Database) -> Iterator[list[object]]:
    begun: list[object] = []

    def note(connection: Connection) -> None:
        if connection.get_execution_options().get("writes"):
            begun.append(connection)

    event.listen(database.engine, "begin", note)
    try:
        yield begun
    finally:
        event.remove(database.engine, "begin", note)


def users_in(database: Database) -> set[str]:
    with database.reading() as session:
        return set(session.scalars(select(Account.name).where(Account.created_at == AT)))
