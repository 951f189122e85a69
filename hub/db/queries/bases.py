"""Bases, each with the number of adapters on it that somebody may see."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from sqlalchemy import Select, bindparam, func, select, tuple_
from sqlalchemy.orm import Session, aliased

from hub.db.models.adapters import Adapter, Base
from hub.db.prepared import Prepared
from hub.db.queries.visibility import Viewer, is_visible

_BASES = Base.__table__.c
# Made once, of columns alone: every push asks for it.
_FOUND = Prepared(
    select(_BASES.id, _BASES.fingerprint, _BASES.name).where(_BASES.fingerprint == bindparam("fingerprint"))
)


class KnownBase(NamedTuple):
    """What a push needs to know of a base that is registered."""

    id: int
    fingerprint: str
    name: str


class CountedBase(NamedTuple):
    base: Base
    adapter_count: int


def by_fingerprint(session: Session, viewer: Viewer, fingerprint: str) -> CountedBase | None:
    row = session.execute(_counted(viewer).where(Base.fingerprint == fingerprint)).first()
    return CountedBase(*row) if row else None


def find(session: Session, fingerprint: str) -> KnownBase | None:
    row = _FOUND.first(session, {"fingerprint": fingerprint})
    return KnownBase(*row) if row else None


def count_of(session: Session, account_id: int) -> int:
    """How many bases the account has registered."""
    return session.scalar(select(func.count()).where(Base.created_by_id == account_id)) or 0


def ids_of(session: Session, name_or_fingerprint: str) -> list[int]:
    """The bases of this name, or the one with this fingerprint."""
    is_it = (Base.fingerprint == name_or_fingerprint) | (Base.name == name_or_fingerprint)
    return list(session.scalars(select(Base.id).where(is_it)))


def names_of(session: Session, ids: Collection[int]) -> dict[int, tuple[str, str]]:
    """Name and fingerprint of these bases, by id."""
    rows = session.execute(select(Base.id, Base.name, Base.fingerprint).where(Base.id.in_(ids)))
    return {base_id: (name, fingerprint) for base_id, name, fingerprint in rows}


def tensors_of(session: Session, base_id: int) -> bytes:
    """The compressed tensor table of a base that exists."""
    return session.scalars(select(Base.tensors).where(Base.id == base_id)).one()


def page(session: Session, viewer: Viewer, *, name: str | None, after: int | None, limit: int) -> list[CountedBase]:
    """Bases by name, those beyond the base with the id `after`."""
    query = _counted(viewer).order_by(Base.name, Base.id).limit(limit)
    if name is not None:
        query = query.where(Base.name == name)
    if after is not None:
        last = aliased(Base)
        query = query.where(
            tuple_(Base.name, Base.id) > select(last.name, last.id).where(last.id == after).scalar_subquery()
        )
    return [CountedBase(*row) for row in session.execute(query)]


def _counted(viewer: Viewer) -> Select[Base, int]:
    on_it = Adapter.base_id == Base.id, is_visible(viewer)
    return select(Base, select(func.count(Adapter.id)).where(*on_it).correlate(Base).scalar_subquery())
