"""Adapters: found by name, and held while a version is added."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Select, bindparam, delete, select, update
from sqlalchemy.orm import Session, contains_eager
from sqlalchemy.orm.attributes import set_committed_value

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter
from hub.db.prepared import Prepared
from hub.db.queries.visibility import Viewer, gives_files_to, is_visible

_CHANGED = Prepared(update(Adapter.__table__).where(Adapter.__table__.c.id == bindparam("key")))  # type: ignore[arg-type]  # it is a Table


def find(session: Session, viewer: Viewer, namespace: str, name: str) -> Adapter | None:
    """The adapter, with its owner and base; None when it is hidden from `viewer`."""
    return session.scalar(_found_by(viewer), {"namespace": namespace, "name": name})


def find_mirrored(session: Session, namespace: str, name: str) -> Adapter | None:
    """The copy of another hub's adapter, whoever may see it."""
    named = Account.name == namespace, Adapter.name == name, Account.mirrored_from.is_not(None)
    return session.scalar(_with_owner_and_base().where(*named))


def find_empty(session: Session, viewer: Viewer, namespace: str, name: str) -> Adapter | None:
    """The adapter, with its owner, while it has no version; None when it is hidden from `viewer`."""
    named = Account.name == namespace, Adapter.name == name, Adapter.last_number == 0
    query = select(Adapter).join(Adapter.account).options(contains_eager(Adapter.account))
    return session.scalar(query.where(*named, is_visible(viewer)))


def has_visible(session: Session, viewer: Viewer, account_id: int) -> bool:
    """True when `viewer` sees an adapter of this account."""
    query = select(Adapter.id).where(Adapter.account_id == account_id, is_visible(viewer))
    return session.scalar(query.limit(1)) is not None


def exists(session: Session, viewer: Viewer, namespace: str, name: str) -> bool:
    """True when `viewer` sees an adapter of this name, with versions or without."""
    query = select(Adapter.id).join(Adapter.account).where(Account.name == namespace, Adapter.name == name)
    return session.scalar(query.where(is_visible(viewer))) is not None


def gives_files(session: Session, viewer: Viewer, adapter_id: int) -> bool:
    """True when `viewer`, who sees the adapter, gets its files too."""
    return session.scalar(select(Adapter.id).where(Adapter.id == adapter_id, gives_files_to(viewer))) is not None


def remove_empty(session: Session, adapter_id: int) -> bool:
    """Removes the adapter unless it has got a version meanwhile. True when it was removed."""
    gone = delete(Adapter).where(Adapter.id == adapter_id, Adapter.last_number == 0).returning(Adapter.id)
    return session.scalar(gone) is not None


def hold(session: Session, account_id: int, name: str) -> Adapter | None:
    """The adapter, locked until the transaction ends: pushes to one adapter come one after another."""
    query = select(Adapter).where(Adapter.account_id == account_id, Adapter.name == name)
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def hold_on_base(session: Session, base_id: int, limit: int, *, after: int) -> Sequence[Adapter]:
    """Up to `limit` adapters of the base beyond the id `after`, locked until the transaction ends."""
    query = select(Adapter).where(Adapter.base_id == base_id, Adapter.id > after).order_by(Adapter.id).limit(limit)
    return session.scalars(query.with_for_update()).all()


def change(session: Session, adapter: Adapter, **values: Any) -> None:
    """Changes the row of an adapter that is held, past the unit of work, and the adapter with it."""
    _CHANGED.run(session, {"key": adapter.id, **values})
    for name, value in values.items():
        set_committed_value(adapter, name, value)


def name_like(session: Session, account_id: int, folded_name: str) -> str | None:
    """The name in this namespace that looks like this one."""
    return session.scalar(
        select(Adapter.name).where(Adapter.account_id == account_id, Adapter.folded_name == folded_name)
    )


@lru_cache(maxsize=64)
def _found_by(viewer: Viewer) -> Select[Adapter]:
    """Made once for each of the last viewers: whatever is about an adapter asks for it, and making it takes longer
    than running it."""
    named = Account.name == bindparam("namespace"), Adapter.name == bindparam("name")
    return _with_owner_and_base().where(*named, is_visible(viewer))


def _with_owner_and_base() -> Select[Adapter]:
    return (
        select(Adapter)
        .join(Adapter.account)
        .join(Adapter.base)
        .options(contains_eager(Adapter.account), contains_eager(Adapter.base))
    )
