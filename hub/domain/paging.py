"""Cursors: where the next page of a list begins, in a form that no client need read and none can make up."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy.orm import Session

from hub.domain.views.page import Page
from hub.errors import Invalid

MAX_LIMIT = 100
# Enough that guessing one takes for ever, and short enough to stand in an address.
_SIGNATURE_BYTES = 12
Row = TypeVar("Row")
View = TypeVar("View")


Key = str | int | float


def encode(session: Session, kind: str, *keys: Key) -> str:
    payload = json.dumps([kind, *keys]).encode()
    return base64.urlsafe_b64encode(_signature(session, payload) + payload).decode().rstrip("=")


def decode(session: Session, cursor: str | None, kind: str, *types: type) -> tuple[Key, ...] | None:
    """The keys of a cursor that `encode` made for this `kind` of list, on this hub. Raises Invalid for any other
    text: nobody makes the database look where no page ends."""
    if cursor is None:
        return None
    try:
        signed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError as error:
        raise _invalid() from error
    signature, payload = signed[:_SIGNATURE_BYTES], signed[_SIGNATURE_BYTES:]
    if not hmac.compare_digest(signature, _signature(session, payload)):
        raise _invalid()
    made_for, *keys = json.loads(payload)
    if made_for != kind or [type(key) for key in keys] != list(types):
        raise _invalid()
    return tuple(keys)


def page(rows: Sequence[Row], limit: int, view: Callable[[Row], View], cursor: Callable[[Row], str]) -> Page[View]:
    """The page that `rows` are, of which one more than `limit` was asked for to see whether more follow."""
    shown = rows[:limit]
    return Page(tuple(view(row) for row in shown), cursor(shown[-1]) if len(rows) > limit else None)


def _signature(session: Session, payload: bytes) -> bytes:
    key: bytes = session.info["signing_key"]
    return hmac.digest(key, b"cursor\0" + payload, "sha256")[:_SIGNATURE_BYTES]


def _invalid() -> Invalid:
    return Invalid("That cursor is not one this list gave: begin at the first page.", code="CURSOR_INVALID")
