"""What is given to the driver past SQLAlchemy is kept and read as SQLAlchemy would."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import bindparam, insert, select, update

from hub.db.models.accounts import Account
from hub.db.models.record import AuditEvent
from hub.db.prepared import Prepared
from hub.db.queries import audit
from hub.db.queries.inserting import insert_numbered
from hub.errors import StorageFull
from tests.builders import make_archive
from tests.hub.harness import Hub, statements_given_to

AT = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
EVENT: dict[str, Any] = {
    "chain": "demo",
    "number": 1,
    "at": AT,
    "actor": "demo",
    "token_id": None,
    "action": "version.pushed",
    "subject": "demo/tiny@v1",
    "adapter": "tiny",
    "facts": {"digest": "sha256:00", "is_new_adapter": True, "text": "ä\0"},
    "previous": "0" * 64,
    "hash": "1" * 64,
}
_EVENTS = AuditEvent.__table__


def test_rows_are_kept_and_read_as_the_common_way_does(hub: Hub) -> None:
    found = select(AuditEvent.at, AuditEvent.token_id, AuditEvent.facts).where(AuditEvent.number == bindparam("number"))
    add = Prepared(insert(_EVENTS))  # type: ignore[arg-type]  # it is a Table
    with hub.database.writing() as session:
        audit.hold_chain(session, "demo")
        add.run(session, EVENT, {**EVENT, "number": 2})
        common = [tuple(session.execute(found, {"number": number}).one()) for number in (1, 2)]
        prepared = [Prepared(found).first(session, {"number": number}) for number in (1, 2)]
        assert Prepared(found).first(session, {"number": 3}) is None

    assert prepared == common == 2 * [(AT.astimezone(UTC), None, EVENT["facts"])]


def test_values_of_the_statement_itself_are_given_too(hub: Hub) -> None:
    change = Prepared(update(_EVENTS).where(_EVENTS.c.number == bindparam("key")).values(actor="rita", at=AT))  # type: ignore[arg-type]
    with hub.database.writing() as session:
        audit.hold_chain(session, "demo")
        Prepared(insert(_EVENTS)).run(session, EVENT)  # type: ignore[arg-type]
        change.run(session, {"key": 1, "action": "version.yanked"})
        changed = session.scalars(select(AuditEvent).where(AuditEvent.number == 1)).one()

        assert (changed.actor, changed.at, changed.action) == ("rita", AT.astimezone(UTC), "version.yanked")


def test_it_sees_what_the_session_has_been_told_before(hub: Hub) -> None:
    named = Prepared(select(Account.kind).where(Account.name == bindparam("name")))
    with hub.database.writing() as session:
        session.add(Account(name="rita", kind="user", created_at=AT))
        assert named.scalar(session, {"name": "rita"}) == "user"
        assert named.all(session, {"name": "rita"}) == [("user",)]


def test_one_that_is_known_already_has_no_number(hub: Hub) -> None:
    values = {"name": "rita", "kind": "user", "created_at": AT}
    with hub.database.writing() as session:
        assert insert_numbered(session, Account, **values) is not None
        assert insert_numbered(session, Account, **values) is None


def test_what_is_raised_takes_back_what_was_done(hub: Hub) -> None:
    def fail() -> None:
        with hub.database.writing() as session:
            assert insert_numbered(session, Account, name="rita", kind="user", created_at=AT) is not None
            raise RuntimeError

    before = hub.contents
    with pytest.raises(RuntimeError):
        fail()
    assert hub.contents == before


def test_a_refusal_of_the_driver_is_said_in_our_words(sqlite_hub: Hub) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    full.sqlite_errorcode, full.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
    with pytest.raises(StorageFull), sqlite_hub.database.writing():
        raise full


def test_a_push_to_sqlite_goes_past_what_each_statement_would_take(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    headers, archive = sqlite_hub.headers(), make_archive(card="---\ntags: [news]\n---\n# A tiny adapter\n", labels=())
    for name in ("once", "twice", "three-times"):  # who pushes is known then
        assert sqlite_hub.push(archive, name, headers=headers).status_code == 201

    with statements_given_to(sqlite_hub.database) as given:
        assert sqlite_hub.push(archive, "once-more", headers=headers).status_code == 201

    assert [str(each.statement) for each in given] == []
