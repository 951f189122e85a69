"""Statements that every push runs, made ready once.

SQLAlchemy takes 25 to 80 microseconds for a statement, whatever is in it: a key to find its SQL by, a context, a result.
SQLite takes 10 for most. Pushes wait for each other's turn to write, so that on SQLite these statements are given to the
driver, with SQLAlchemy's SQL and its conversions of values, both asked for once. Elsewhere, and where a session only reads,
they go the common way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Dialect, Executable
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler

# What a session that writes to SQLite carries, in its `info`: the connection of the driver.
_DRIVER = "driver"

Values = Mapping[str, Any]
_Convert = Callable[[Any], Any]


def write_through_driver(session: Session) -> None:
    """From now on, and with a transaction that has begun, `session` gives what is prepared to the driver."""
    session.info[_DRIVER] = session.connection().connection.driver_connection


def driver_of(session: Session) -> sqlite3.Connection:
    """The driver's connection of a session that writes to SQLite."""
    driver: sqlite3.Connection = session.info[_DRIVER]
    return driver


class Prepared:
    """A statement with values for its parameters, or for columns of an INSERT; what is given each time has the same names
    or others. Rows come as tuples of what their columns' types make of them."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._ready: dict[tuple[str, ...], _Ready] = {}

    def all(self, session: Session, values: Values) -> Sequence[tuple[Any, ...]]:
        driver = _written_through(session)
        if driver is None:
            return [tuple(row) for row in session.execute(self._statement, values)]
        ready = self._ready_for(session, values)
        return ready.read(driver.execute(ready.sql, ready.bind(values)).fetchall())

    def first(self, session: Session, values: Values) -> tuple[Any, ...] | None:
        return next(iter(self.all(session, values)), None)

    def scalar(self, session: Session, values: Values) -> Any:
        """The first column of the first row; None without one."""
        row = self.first(session, values)
        return row[0] if row else None

    def run(self, session: Session, *rows: Values) -> None:
        """Runs it once for each of `rows`, which have the same names."""
        driver = _written_through(session)
        if driver is None:
            session.execute(self._statement, rows[0] if len(rows) == 1 else list(rows))
            return
        ready = self._ready_for(session, rows[0])
        driver.executemany(ready.sql, map(ready.bind, rows))

    def _ready_for(self, session: Session, values: Values) -> _Ready:
        names = tuple(values)
        if names not in self._ready:
            self._ready[names] = _made_ready(self._statement, session.get_bind().dialect, names)
        return self._ready[names]


@dataclass(frozen=True)
class _Ready:
    """SQL with a question mark for each of `parameters`, which are names, and where none is given for one, a value; with how
    each value is kept, and how each column is read."""

    sql: str
    parameters: Sequence[tuple[str | None, Any, _Convert]]
    columns: Sequence[_Convert]

    def bind(self, values: Values) -> list[Any]:
        return [convert(values[name] if name is not None else value) for name, value, convert in self.parameters]

    def read(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        return [tuple([convert(value) for convert, value in zip(self.columns, row, strict=True)]) for row in rows]


def _made_ready(statement: Executable, dialect: Dialect, names: Sequence[str]) -> _Ready:
    compiled = statement.compile(dialect=dialect, column_keys=list(names))  # type: ignore[attr-defined]  # of each that is here
    assert isinstance(compiled, SQLCompiler)
    given, own = set(names), compiled.params
    parameters = []
    for name in compiled.positiontup or ():
        convert = compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect)
        parameters.append(
            (name, None, convert or _as_it_is) if name in given else (None, own[name], convert or _as_it_is)
        )
    columns = [
        column.type.dialect_impl(dialect).result_processor(dialect, None) or _as_it_is
        for column in _columns_of(statement)
    ]
    return _Ready(str(compiled), parameters, columns)


def _columns_of(statement: Any) -> Sequence[Any]:
    """The columns of the rows that it gives."""
    return list(statement.exported_columns) if hasattr(statement, "exported_columns") else []


def _written_through(session: Session) -> sqlite3.Connection | None:
    """The driver's connection, which has then all that the session was told to keep; None where it takes the common way."""
    if _DRIVER not in session.info:
        return None
    session.flush()
    return driver_of(session)


def _as_it_is(value: Any) -> Any:
    return value
