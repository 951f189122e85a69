"""Inserts that leave it to the constraints who came first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any

from sqlalchemy import Select, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.db.models import Table

# SQLite takes 32,766 values in a statement, PostgreSQL 65,535.
_ROWS_AT_ONCE = 1000


def insert_new(session: Session, table: type[Table], **values: Any) -> bool:
    """Inserts a row unless a constraint says that there is one already. True when it was inserted."""
    return session.execute(_insert_new(table, _dialect_of(session)), values).first() is not None


def insert_rows(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts those of `rows` that a constraint does not know already, and says how many that were."""
    inserted = 0
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        statement = _insert(session, table).values(rows[start : start + _ROWS_AT_ONCE]).on_conflict_do_nothing()
        inserted += len(session.execute(statement.returning(literal(1))).all())
    return inserted


def insert_from(session: Session, table: type[Table], columns: Sequence[str], rows: Select[*tuple[Any, ...]]) -> None:
    """Inserts what the SELECT `rows` gives, without those that a constraint says are there already."""
    session.execute(_insert(session, table).from_select(list(columns), rows).on_conflict_do_nothing())


@cache
def _insert_new(table: type[Table], dialect: ModuleType) -> Any:
    """Made once: that takes longer than running it."""
    return dialect.insert(table.__table__).on_conflict_do_nothing().returning(literal(1))


def _insert(session: Session, table: type[Table]) -> Any:
    return _dialect_of(session).insert(table.__table__)


def _dialect_of(session: Session) -> ModuleType:
    """Whose INSERT it is to be: the clause for conflicts is not the standard's."""
    return sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
