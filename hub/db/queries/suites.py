"""Suites. Each name has one current definition."""

from __future__ import annotations

from functools import cache

from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.orm import Session

from hub.db.models.evaluating import Suite


def all_current(session: Session) -> list[Suite]:
    return list(session.scalars(select(Suite).where(Suite.is_current).order_by(Suite.name)))


def current(session: Session, name: str) -> Suite | None:
    return session.scalar(select(Suite).where(Suite.is_current, Suite.name == name))


def current_for_labels(session: Session, labels_sha256: str) -> list[Suite]:
    """The suites that ask for exactly these labels."""
    return list(session.scalars(_current_for_labels(), {"labels_sha256": labels_sha256}))


@cache
def _current_for_labels() -> Select[Suite]:
    """Made once: every push asks for it."""
    asks = Suite.is_current, Suite.labels_sha256 == bindparam("labels_sha256")
    return select(Suite).where(*asks).order_by(Suite.name)


def defined_as(session: Session, name: str, digest: str) -> Suite | None:
    return session.scalar(select(Suite).where(Suite.name == name, Suite.digest == digest))


def retire(session: Session, name: str) -> None:
    """Takes the place of the current definition away, for another to fill it."""
    session.execute(update(Suite).where(Suite.name == name, Suite.is_current).values(is_current=False))
