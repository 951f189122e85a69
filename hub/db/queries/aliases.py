"""Aliases of an adapter, and every move they ever made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Select, bindparam, delete, func, select
from sqlalchemy.orm import Session, joinedload

from hub.db.models.versions import Alias, AliasMove, Version

_ALIASES = Alias.__table__.c
# Made once, of columns alone: every answer about a version asks for it.
_NAMES_OF = select(_ALIASES.name).where(_ALIASES.version_id == bindparam("version_id")).order_by(_ALIASES.name)


class Pointing(NamedTuple):
    """An alias, the version that has it, and the move that made it so."""

    alias: Alias
    version: Version
    move: AliasMove


def all_of(session: Session, adapter_id: int) -> list[Pointing]:
    """By name."""
    rows = session.execute(_pointing().where(Alias.adapter_id == adapter_id).order_by(Alias.name))
    return [Pointing(*row) for row in rows]


def find(session: Session, adapter_id: int, name: str) -> Pointing | None:
    row = session.execute(_pointing().where(Alias.adapter_id == adapter_id, Alias.name == name)).first()
    return Pointing(*row) if row else None


def count(session: Session, adapter_id: int) -> int:
    return session.scalar(select(func.count()).where(Alias.adapter_id == adapter_id)) or 0


def names_of(session: Session, version_id: int) -> Sequence[str]:
    """The aliases that a version has, by name."""
    return session.scalars(_NAMES_OF, {"version_id": version_id}).all()


def note_move(
    session: Session, adapter_id: int, name: str, *, before: int | None, after: int | None, by_id: int, at: datetime
) -> AliasMove:
    """Writes a move, from and to versions by number, into the history."""
    move = AliasMove(adapter_id=adapter_id, name=name, from_number=before, to_number=after, by_id=by_id, at=at)
    session.add(move)
    session.flush()
    return move


def remove(session: Session, adapter_id: int, name: str) -> None:
    session.execute(delete(Alias).where(Alias.adapter_id == adapter_id, Alias.name == name))


def moves(
    session: Session, adapter_id: int, name: str, *, before: int | None = None, limit: int | None = None
) -> list[AliasMove]:
    """The history of an alias, newest first, from below the move `before`."""
    query = _moves(adapter_id, name)
    if before is not None:
        query = query.where(AliasMove.id < before)
    return list(session.scalars(query.limit(limit)))


def last_move_until(session: Session, adapter_id: int, name: str, at: datetime) -> AliasMove | None:
    """What the alias had done last at the moment `at`."""
    return session.scalar(_moves(adapter_id, name).where(AliasMove.at <= at).limit(1))


def first_move_after(session: Session, adapter_id: int, name: str, move_id: int | None = None) -> AliasMove | None:
    """The next move of the alias after the move `move_id`; the first it ever made, without one."""
    query = _moves(adapter_id, name).order_by(None).order_by(AliasMove.id)
    if move_id is not None:
        query = query.where(AliasMove.id > move_id)
    return session.scalar(query.limit(1))


def _pointing() -> Select[Alias, Version, AliasMove]:
    return (
        select(Alias, Version, AliasMove)
        .join(Version, Version.id == Alias.version_id)
        .join(AliasMove, AliasMove.id == Alias.move_id)
        .options(joinedload(AliasMove.by))
    )


def _moves(adapter_id: int, name: str) -> Select[AliasMove]:
    return (
        select(AliasMove)
        .where(AliasMove.adapter_id == adapter_id, AliasMove.name == name)
        .order_by(AliasMove.id.desc())
        .options(joinedload(AliasMove.by))
    )
