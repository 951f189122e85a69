"""Webhooks, and the messages that wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session, contains_eager, joinedload

from hub.db.models.accounts import Account
from hub.db.models.record import Delivery, Webhook
from hub.db.prepared import Prepared

_HOOKS, _ACCOUNTS = Webhook.__table__.c, Account.__table__.c
# Made once, of columns alone: every change of anything asks for it.
_HEARING = Prepared(
    select(_HOOKS.id, _HOOKS.actions)
    .join(Account.__table__, _ACCOUNTS.id == _HOOKS.account_id)
    .where(
        _ACCOUNTS.name == bindparam("namespace"),
        _HOOKS.adapter_name.is_(None) | (_HOOKS.adapter_name == bindparam("adapter")),
        _HOOKS.disabled_at.is_(None),
        # Adapters of a deleted user stay, and tell that user nothing; an organisation ends without any, and says so.
        _ACCOUNTS.deleted_at.is_(None) | (_ACCOUNTS.kind == "organisation"),
    )
)


def of_account(session: Session, account_id: int) -> list[Webhook]:
    """With those who have added them, the earliest first."""
    query = select(Webhook).where(Webhook.account_id == account_id).order_by(Webhook.id)
    return list(session.scalars(query.options(joinedload(Webhook.created_by))))


def by_id(session: Session, webhook_id: int, account_id: int) -> Webhook | None:
    query = select(Webhook).where(Webhook.id == webhook_id, Webhook.account_id == account_id)
    return session.scalar(query.options(joinedload(Webhook.created_by)))


def count(session: Session, account_id: int) -> int:
    return session.scalar(select(func.count()).where(Webhook.account_id == account_id)) or 0


class Hearer(NamedTuple):
    """A webhook that is still sent to. `actions` are those it hears of; None is all."""

    id: int
    actions: Sequence[str] | None


def hearing_of(session: Session, namespace: str, adapter: str | None) -> list[Hearer]:
    """Those of the namespace, or of this adapter in it, that are still sent to."""
    return [Hearer(*row) for row in _HEARING.all(session, {"namespace": namespace, "adapter": adapter})]


def remove(session: Session, webhook_id: int) -> None:
    """Removes it with its deliveries."""
    session.execute(delete(Delivery).where(Delivery.webhook_id == webhook_id))
    session.execute(delete(Webhook).where(Webhook.id == webhook_id))


# -- Deliveries -----------------------------------------------------------------------------------


def deliveries(session: Session, webhook_id: int, *, before: int | None, limit: int) -> list[Delivery]:
    """The newest first."""
    query = select(Delivery).where(Delivery.webhook_id == webhook_id).order_by(Delivery.id.desc())
    return list(session.scalars((query if before is None else query.where(Delivery.id < before)).limit(limit)))


def delivery(session: Session, delivery_id: int, webhook_id: int) -> Delivery | None:
    return session.scalar(select(Delivery).where(Delivery.id == delivery_id, Delivery.webhook_id == webhook_id))


def has_due(session: Session, at: datetime) -> bool:
    due = select(Delivery.id).where(Delivery.state == "waiting", Delivery.next_at <= at)
    return session.scalar(due.limit(1)) is not None


def take_due(session: Session, at: datetime, *, until: datetime, limit: int, each: int) -> Sequence[Delivery]:
    """Up to `limit` messages that are due, with their webhooks, and at most `each` for one: whoever answers slowly
    delays nobody else, however much waits for them. They are this caller's `until` then."""
    is_due = Delivery.state == "waiting", Delivery.next_at <= at
    place = func.row_number().over(partition_by=Delivery.webhook_id, order_by=(Delivery.next_at, Delivery.id))
    ranked = select(Delivery.id, place.label("place")).where(*is_due).subquery()
    query = (
        select(Delivery)
        .join(ranked, ranked.c.id == Delivery.id)
        .join(Delivery.webhook)
        .options(contains_eager(Delivery.webhook))
        .where(ranked.c.place <= each, *is_due)  # due still, when the row is locked
        .order_by(ranked.c.place, Delivery.next_at, Delivery.id)
        .limit(limit)
        .with_for_update(of=Delivery, skip_locked=True)
    )
    taken = session.scalars(query).all()
    for found in taken:
        found.next_at, found.attempts = until, found.attempts + 1
    session.flush()
    return taken


def note_outcome(session: Session, delivery_id: int, attempts: int, **values: object) -> None:
    """Keeps what came of an attempt, unless another one has begun since."""
    mine = Delivery.id == delivery_id, Delivery.attempts == attempts, Delivery.state == "waiting"
    session.execute(update(Delivery).where(*mine).values(**values))


def disable(session: Session, webhook_id: int, *, at: datetime) -> None:
    session.execute(update(Webhook).where(Webhook.id == webhook_id).values(disabled_at=at))


def forget_before(session: Session, at: datetime) -> None:
    """Forgets messages of before that moment that wait for nothing."""
    session.execute(delete(Delivery).where(Delivery.created_at < at, Delivery.state != "waiting"))
