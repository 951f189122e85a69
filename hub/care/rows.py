"""A database as text: one file for each table, one line of JSON for each row. It fits SQLite and PostgreSQL alike."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Connection, TypeDecorator, insert, select, text
from sqlalchemy import Table as TableOfRows

from hub.db.models.table import Table

_AT_ONCE = 500


def write(connection: Connection, folder: Path) -> list[Path]:
    """Writes every table, as one transaction sees them, and gives the files."""
    folder.mkdir()
    written = []
    for table in _tables():
        path = folder / f"{table.name}.jsonl"
        with path.open("x", encoding="ascii") as file:
            rows = connection.execution_options(yield_per=_AT_ONCE).execute(select(table).order_by(*table.primary_key))
            for row in rows:
                values = {column.name: _spelled(value) for column, value in zip(table.columns, row, strict=True)}
                file.write(json.dumps(values, separators=(",", ":")) + "\n")
        written.append(path)
    return written


def read(connection: Connection, folder: Path) -> None:
    """Fills the tables, which are empty, from what `write` has written."""
    for table in _tables():
        lines = _lines(folder / f"{table.name}.jsonl")
        while some := list(islice(lines, _AT_ONCE)):
            rows = [{column.name: _meant(column, line[column.name]) for column in table.columns} for line in some]
            connection.execute(insert(table), rows)
        if connection.dialect.name == "postgresql" and "id" in table.columns:
            _go_on_counting(connection, table.name)


def _tables() -> list[TableOfRows]:
    """The tables that say something of their own: what is derived from them is made anew when the hub starts."""
    return [table for table in Table.metadata.sorted_tables if not table.info.get("is_derived")]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="ascii") as file:
        for line in file:
            yield json.loads(line)


def _spelled(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value


def _meant(column: Column[Any], value: Any) -> Any:
    if value is None:
        return None
    stored_as = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    kind = stored_as.python_type
    if kind is bytes:
        return base64.b64decode(value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    return date.fromisoformat(value) if kind is date else value


def _go_on_counting(connection: Connection, table: str) -> None:
    """PostgreSQL numbers rows by a sequence, which knows nothing of rows that came with their numbers."""
    sequence = f"pg_get_serial_sequence('{table}', 'id')"
    connection.execute(
        text(f"SELECT setval({sequence}, greatest(coalesce(max(id), 0) + 1, 1), false) FROM {table}")  # noqa: S608  # a table of ours
    )
