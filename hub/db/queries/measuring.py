"""How much there is and how much waits, for whoever watches the hub: each in a few milliseconds unless it says otherwise."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from hub.db.models.evaluating import Evaluation, Worker, WorkerKey
from hub.db.models.objects import Blob
from hub.db.queries.queueing import is_free


def count_free_jobs(session: Session, at: datetime) -> int:
    return session.scalars(select(func.count()).where(is_free(at))).one()


def count_held_jobs(session: Session, at: datetime) -> int:
    held = Evaluation.state == "running", Evaluation.lease_expires_at > at
    return session.scalars(select(func.count()).where(*held)).one()


def count_failed_jobs(session: Session) -> int:
    return session.scalars(select(func.count()).where(Evaluation.state == "failed")).one()


def oldest_free_job(session: Session, at: datetime) -> datetime | None:
    """When the job that has been free for longest was asked for."""
    return session.scalar(select(func.min(Evaluation.created_at)).where(is_free(at)))


def count_workers(session: Session, *, since: datetime, until: datetime | None = None) -> int:
    """The workers that were last heard of in between, but for those that are shut out."""
    query = select(func.count()).select_from(Worker).outerjoin(WorkerKey, WorkerKey.id == Worker.key_id)
    query = query.where(Worker.last_seen_at > since, WorkerKey.revoked_at.is_(None))
    return session.scalars(query if until is None else query.where(Worker.last_seen_at <= until)).one()


def count_files(session: Session) -> int:
    return session.scalars(select(func.count(Blob.sha256))).one()


def object_bytes(session: Session) -> int:
    """What is in the object store. Reads every row, which takes seconds where there are many."""
    return session.scalars(select(func.coalesce(func.sum(Blob.size_bytes), 0)).where(Blob.data.is_(None))).one()


def database_bytes(session: Session) -> int:
    if session.get_bind().dialect.name == "sqlite":
        size = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    else:
        size = "SELECT pg_database_size(current_database())"
    return int(session.execute(text(size)).scalar_one())
