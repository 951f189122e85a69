"""Adapters: found by name, listed page by page, and held while a version is added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Select, delete, select, tuple_
from sqlalchemy.orm import Session, contains_eager

from hub.db.models import Account, Adapter, Base
from hub.db.queries.visibility import Viewer, is_visible


@dataclass(frozen=True)
class Filters:
    """Which adapters a list shows. `base` is a fingerprint or a name; `search` is part of owner/name."""

    search: str | None = None
    base: str | None = None
    owner: str | None = None
    task: str | None = None

    def apply(self, query: Select[Adapter]) -> Select[Adapter]:
        if self.search:
            query = query.where((Account.name + "/" + Adapter.name).contains(self.search.lower(), autoescape=True))
        if self.base:
            query = query.where((Base.fingerprint == self.base) | (Base.name == self.base))
        if self.owner:
            query = query.where(Account.name == self.owner)
        if self.task:
            query = query.where(Adapter.task_kind == self.task)
        return query


def find(session: Session, viewer: Viewer, namespace: str, name: str) -> Adapter | None:
    """The adapter, with its owner and base; None when it is hidden from `viewer`."""
    named = Account.name == namespace, Adapter.name == name
    return session.scalar(_with_owner_and_base().where(*named, is_visible(viewer)))


def find_empty(session: Session, viewer: Viewer, namespace: str, name: str) -> Adapter | None:
    """The adapter, with its owner, while it has no version; None when it is hidden from `viewer`."""
    named = Account.name == namespace, Adapter.name == name, Adapter.last_number == 0
    query = select(Adapter).join(Adapter.account).options(contains_eager(Adapter.account))
    return session.scalar(query.where(*named, is_visible(viewer)))


def exists(session: Session, viewer: Viewer, namespace: str, name: str) -> bool:
    """True when `viewer` sees an adapter of this name, with versions or without."""
    query = select(Adapter.id).join(Adapter.account).where(Account.name == namespace, Adapter.name == name)
    return session.scalar(query.where(is_visible(viewer))) is not None


def remove_empty(session: Session, adapter_id: int) -> bool:
    """Removes the adapter unless it has got a version meanwhile. True when it was removed."""
    gone = delete(Adapter).where(Adapter.id == adapter_id, Adapter.last_number == 0).returning(Adapter.id)
    return session.scalar(gone) is not None


def hold(session: Session, account_id: int, name: str) -> Adapter | None:
    """The adapter, locked until the transaction ends: pushes to one adapter come one after another."""
    query = select(Adapter).where(Adapter.account_id == account_id, Adapter.name == name)
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def name_like(session: Session, account_id: int, folded_name: str) -> str | None:
    """The name in this namespace that looks like this one."""
    return session.scalar(
        select(Adapter.name).where(Adapter.account_id == account_id, Adapter.folded_name == folded_name)
    )


def page_by_update(
    session: Session, viewer: Viewer, filters: Filters, *, after: tuple[datetime, int] | None, limit: int
) -> list[Adapter]:
    """The last updated first, those beyond the (updated_at, id) of `after`."""
    query = (
        filters.apply(_with_owner_and_base())
        .where(is_visible(viewer))
        .order_by(Adapter.updated_at.desc(), Adapter.id.desc())
    )
    if after is not None:
        query = query.where(tuple_(Adapter.updated_at, Adapter.id) < tuple_(*after))
    return list(session.scalars(query.limit(limit)))


def page_by_name(
    session: Session, viewer: Viewer, filters: Filters, *, after: tuple[str, str] | None, limit: int
) -> list[Adapter]:
    """By namespace and name, those beyond the (namespace, name) of `after`."""
    query = filters.apply(_with_owner_and_base()).where(is_visible(viewer)).order_by(Account.name, Adapter.name)
    if after is not None:
        query = query.where(tuple_(Account.name, Adapter.name) > tuple_(*after))
    return list(session.scalars(query.limit(limit)))


def _with_owner_and_base() -> Select[Adapter]:
    return (
        select(Adapter)
        .join(Adapter.account)
        .join(Adapter.base)
        .options(contains_eager(Adapter.account), contains_eager(Adapter.base))
    )
