"""The record: chains of events, added to at their end and never changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, insert, select, true, update
from sqlalchemy.orm import Session

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter
from hub.db.models.record import AuditChain, AuditEvent
from hub.db.prepared import Prepared
from hub.db.queries.inserting import insert_new
from hub.db.queries.visibility import Viewer, is_visible

GENESIS = "0" * 64
# Every change of anything adds to the record: these are made once, and go past the unit of work.
_CHAINS = AuditChain.__table__.c
_NAMED = _CHAINS.name == bindparam("chain")
_HELD = Prepared(select(_CHAINS.length, _CHAINS.hash).where(_NAMED).with_for_update())
_MOVED = Prepared(update(AuditChain.__table__).where(_NAMED).values(length=bindparam("number"), hash=bindparam("last")))  # type: ignore[arg-type]  # it is a Table
_ADDED = Prepared(insert(AuditEvent.__table__))  # type: ignore[arg-type]
_COLUMNS = tuple(column.name for column in AuditEvent.__table__.columns if column.name != "id")


class Head(NamedTuple):
    """The end of a chain: how many events it has, and the hash of the last one."""

    length: int
    hash: str


def hold_chain(session: Session, name: str) -> Head:
    """The end of a chain, begun now when it is new, and locked until the transaction ends."""
    held = _HELD.first(session, {"chain": name})
    if held is None:
        insert_new(session, AuditChain, name=name, length=0, hash=GENESIS)
        held = _HELD.first(session, {"chain": name})
        assert held is not None
    return Head(*held)


def add(session: Session, event: AuditEvent) -> None:
    """Puts the event at the end of its chain, which is held."""
    _ADDED.run(session, {name: getattr(event, name) for name in _COLUMNS})
    _MOVED.run(session, {"chain": event.chain, "number": event.number, "last": event.hash})


def page(
    session: Session, chain: str, *, adapter: str | None = None, before: int | None = None, limit: int
) -> list[AuditEvent]:
    """Events of a chain, the newest first, those before the number `before`."""
    query = select(AuditEvent).where(AuditEvent.chain == chain).order_by(AuditEvent.number.desc())
    if adapter is not None:
        query = query.where(AuditEvent.adapter == adapter)
    if before is not None:
        query = query.where(AuditEvent.number < before)
    return list(session.scalars(query.limit(limit)))


def of_visible_adapters(
    session: Session, viewer: Viewer, namespace: str, name: str | None, *, actions: Sequence[str], limit: int
) -> list[AuditEvent]:
    """Events of these actions, the newest first, of the adapters in the namespace, or of one, that `viewer` may see."""
    visible = (
        select(Adapter.name)
        .join(Adapter.account)
        .where(Account.name == namespace, is_visible(viewer), true() if name is None else Adapter.name == name)
    )
    query = select(AuditEvent).where(
        AuditEvent.chain == namespace, AuditEvent.adapter.in_(visible), AuditEvent.action.in_(actions)
    )
    return list(session.scalars(query.order_by(AuditEvent.number.desc()).limit(limit)))


def chains(session: Session) -> list[AuditChain]:
    return list(session.scalars(select(AuditChain).order_by(AuditChain.name)))


def events_of(session: Session, chain: str) -> Iterator[AuditEvent]:
    """Every event of a chain, the first one first."""
    query = select(AuditEvent).where(AuditEvent.chain == chain).order_by(AuditEvent.number)
    yield from session.scalars(query.execution_options(yield_per=500))
