"""Cursors: where the next page of a list begins, in a form that no client need read."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from hub.domain.views import Page
from hub.errors import Invalid

MAX_LIMIT = 100
Row = TypeVar("Row")
View = TypeVar("View")


def encode(kind: str, *keys: str | int) -> str:
    return base64.urlsafe_b64encode(json.dumps([kind, *keys]).encode()).decode().rstrip("=")


def decode(cursor: str | None, kind: str, *types: type) -> tuple[str | int, ...] | None:
    """The keys of a cursor that `encode` made for this `kind` of list. Raises Invalid for any other text."""
    if cursor is None:
        return None
    try:
        made_for, *keys = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, RecursionError) as error:
        raise _invalid() from error
    fits = [type(key) for key in keys] == list(types) and all(_is_storable(key) for key in keys)
    if made_for != kind or not fits:
        raise _invalid()
    return tuple(keys)


def moment(key: str | int) -> datetime:
    """The time that a cursor holds. Raises Invalid."""
    try:
        at = datetime.fromisoformat(str(key))
    except ValueError as error:
        raise _invalid() from error
    if at.tzinfo is None:
        raise _invalid()
    return at


def page(rows: Sequence[Row], limit: int, view: Callable[[Row], View], cursor: Callable[[Row], str]) -> Page[View]:
    """The page that `rows` are, of which one more than `limit` was asked for to see whether more follow."""
    shown = rows[:limit]
    return Page(tuple(view(row) for row in shown), cursor(shown[-1]) if len(rows) > limit else None)


def _is_storable(key: str | int) -> bool:
    return abs(key) < 1 << 63 if isinstance(key, int) else "\0" not in key and key.isprintable()


def _invalid() -> Invalid:
    return Invalid("That cursor is not one this list gave: begin at the first page.", code="CURSOR_INVALID")
