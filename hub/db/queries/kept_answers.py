"""Answers that are kept for who asks the same again with the same key."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, select, update
from sqlalchemy.orm import Session

from hub.db.models.accounts import KeptAnswer
from hub.db.queries.inserting import insert_new

KEPT = timedelta(hours=24)


def claim(session: Session, token_id: int, name: str, *, fingerprint: str, asked: str, at: datetime) -> bool:
    """Makes the row of a key. False when there is one, for which this waits while another transaction is making it."""
    values = {"fingerprint": fingerprint, "asked": asked, "status": 0, "etag": None, "sealed": b"", "created_at": at}
    return insert_new(session, KeptAnswer, token_id=token_id, name=name, **values)


def find(session: Session, token_id: int, name: str) -> KeptAnswer:
    """The row, which is there."""
    return session.scalars(select(KeptAnswer).where(*_named(token_id, name))).one()


def keep(session: Session, token_id: int, name: str, *, status: int, etag: str | None, sealed: bytes) -> None:
    """Completes a row that `claim` has made."""
    values = {"status": status, "etag": etag, "sealed": sealed}
    session.execute(update(KeptAnswer).where(*_named(token_id, name)).values(**values))


def forget(session: Session, token_id: int, name: str) -> None:
    session.execute(delete(KeptAnswer).where(*_named(token_id, name)))


def forget_of(session: Session, token_id: int, before: datetime) -> None:
    """Those of one token: two who clear away at once do not wait for each other in circles."""
    session.execute(delete(KeptAnswer).where(KeptAnswer.token_id == token_id, KeptAnswer.created_at < before))


def forget_before(session: Session, before: datetime) -> None:
    session.execute(delete(KeptAnswer).where(KeptAnswer.created_at < before))


def _named(token_id: int, name: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return KeptAnswer.token_id == token_id, KeptAnswer.name == name
