"""The record: chains of events, added to at their end and never changed."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.db.models import AuditChain, AuditEvent
from hub.db.queries.inserting import insert_new

GENESIS = "0" * 64


def hold_chain(session: Session, name: str) -> AuditChain:
    """The head of a chain, begun now when it is new, and locked until the transaction ends."""
    held = select(AuditChain).where(AuditChain.name == name).with_for_update()
    held = held.execution_options(populate_existing=True)
    chain = session.scalar(held)
    if chain is None:
        insert_new(session, AuditChain, name=name, length=0, hash=GENESIS)
        chain = session.scalars(held).one()
    return chain


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


def chains(session: Session) -> list[AuditChain]:
    return list(session.scalars(select(AuditChain).order_by(AuditChain.name)))


def events_of(session: Session, chain: str) -> Iterator[AuditEvent]:
    """Every event of a chain, the first one first."""
    query = select(AuditEvent).where(AuditEvent.chain == chain).order_by(AuditEvent.number)
    yield from session.scalars(query.execution_options(yield_per=500))
