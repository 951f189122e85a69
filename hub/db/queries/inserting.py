"""Inserts that leave it to the constraints who came first."""

from __future__ import annotations

from typing import Any

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from hub.db.models import Table


def insert_new(session: Session, table: type[Table], **values: Any) -> bool:
    """Inserts a row unless a constraint says that there is one already. True when it was inserted."""
    return bool(session.execute(_insert(session, table).values(**values).on_conflict_do_nothing()).rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an INSERT


def insert_from(session: Session, table: type[Table], columns: list[str], rows: Any) -> None:
    """Inserts what the SELECT `rows` gives, without those that a constraint says are there already."""
    session.execute(_insert(session, table).from_select(columns, rows).on_conflict_do_nothing())


def _insert(session: Session, table: type[Table]) -> Any:
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return dialect.insert(table)
