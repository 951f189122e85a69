"""Workers, and when each was last heard of."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload

from hub.db.models.evaluating import Worker
from hub.db.queries.inserting import insert_new


def ensure(session: Session, token_id: int, name: str, *, at: datetime) -> Worker:
    """The worker that this token calls `name`, made now when it is new."""
    insert_new(session, Worker, token_id=token_id, name=name, created_at=at, last_seen_at=at, suite_ids=[])
    return session.scalars(select(Worker).where(Worker.token_id == token_id, Worker.name == name)).one()


def of_token(session: Session, worker_id: int, token_id: int) -> Worker | None:
    """The worker with its key."""
    query = select(Worker).where(Worker.id == worker_id, Worker.token_id == token_id)
    return session.scalar(query.options(joinedload(Worker.key)))


def by_id(session: Session, worker_id: int) -> Worker | None:
    return session.get(Worker, worker_id)


def seen_since(session: Session, moment: datetime) -> list[Worker]:
    return list(session.scalars(select(Worker).where(Worker.last_seen_at > moment)))


def note_seen(session: Session, worker_id: int, *, at: datetime, at_most_every: timedelta) -> None:
    stale = Worker.last_seen_at < at - at_most_every
    session.execute(update(Worker).where(Worker.id == worker_id, stale).values(last_seen_at=at))
