"""Inserts that leave it to the constraints who came first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Row, Select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.db.models.table import Table
from hub.db.prepared import Prepared


def insert_new(session: Session, table: type[Table], **values: Any) -> bool:
    """Inserts a row unless a constraint says that there is one already. True when it was inserted."""
    return insert_numbered(session, table, **values) is not None


def insert_numbered(session: Session, table: type[Table], **values: Any) -> Any:
    """`insert_new` that gives the first column of the row, which is mostly its id; None when it was not inserted."""
    return _numbering(session.get_bind().dialect.name, table).scalar(session, values)


def insert_rows(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> int:
    """Inserts those of `rows` that a constraint does not know already, and says how many that were."""
    return len(_inserted(session, table, rows)) if rows else 0


def insert_quietly(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts those of `rows`, of which there is one at least, that a constraint does not know already."""
    _inserting_quietly(session.get_bind().dialect.name, table).run(session, *rows)


def insert_from(session: Session, table: type[Table], columns: Sequence[str], rows: Select[*tuple[Any, ...]]) -> None:
    """Inserts what the SELECT `rows` gives, without those that a constraint says are there already."""
    statement = _insert(session.get_bind().dialect.name, table).from_select(list(columns), rows)
    session.execute(statement.on_conflict_do_nothing())


def _inserted(session: Session, table: type[Table], rows: Sequence[Mapping[str, Any]]) -> Sequence[Row[Any]]:
    return session.execute(_inserting(session.get_bind().dialect.name, table), list(rows)).all()


@lru_cache
def _inserting(dialect: str, table: type[Table]) -> Any:
    """Made once for each table: making a statement takes longer than running it."""
    first_column = next(iter(table.__table__.columns))
    return _insert(dialect, table).on_conflict_do_nothing().returning(first_column)


@lru_cache
def _numbering(dialect: str, table: type[Table]) -> Prepared:
    return Prepared(_inserting(dialect, table))


@lru_cache
def _inserting_quietly(dialect: str, table: type[Table]) -> Prepared:
    return Prepared(_insert(dialect, table).on_conflict_do_nothing())


def _insert(dialect: str, table: type[Table]) -> Any:
    """The dialect's INSERT: the clause for conflicts is not the standard's."""
    return (sqlite if dialect == "sqlite" else postgresql).insert(table.__table__)
