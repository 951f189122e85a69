"""The keys that workers sign with, the codes that let a worker in, and what each key has signed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import exists, func, or_, select, update
from sqlalchemy.orm import Session

from hub.db.models.accounts import Token
from hub.db.models.evaluating import Evaluation, Worker, WorkerCode, WorkerKey
from hub.db.queries.evaluations import with_names
from hub.db.queries.inserting import insert_new


class Counted(NamedTuple):
    """A key, how many results it has signed, and when a worker with it was last heard of."""

    key: WorkerKey
    results: int
    last_seen_at: datetime | None


def ensure(session: Session, public_key: str, **values: Any) -> WorkerKey:
    """The row of this key, made now when it is new."""
    insert_new(session, WorkerKey, public_key=public_key, **values)
    return session.scalars(select(WorkerKey).where(WorkerKey.public_key == public_key)).one()


def of_token(session: Session, token_id: int) -> WorkerKey | None:
    """The key that this token was given for; None for one that any key of its machine may come with."""
    mine = or_(WorkerKey.token_id == token_id, WorkerKey.next_token_id == token_id)
    return session.scalar(select(WorkerKey).where(mine))


def let_in_for(session: Session, account_id: int) -> Sequence[WorkerKey]:
    """The keys that codes of this account have let in and that are let in still, the earliest first."""
    its_own = Token.id.in_((WorkerKey.token_id, WorkerKey.next_token_id))
    good = exists().where(its_own, Token.account_id == account_id, Token.revoked_at.is_(None))
    return session.scalars(select(WorkerKey).where(good).order_by(WorkerKey.id)).all()


def end_codes(session: Session, account_id: int, *, at: datetime) -> None:
    """Codes of this account that nobody has used are good for nothing from now on."""
    unused = WorkerCode.account_id == account_id, WorkerCode.used_at.is_(None)
    session.execute(update(WorkerCode).where(*unused).values(used_at=at))


def counted(session: Session) -> list[Counted]:
    """Every key, the earliest first."""
    signed = select(func.count()).where(Evaluation.worker_key_id == WorkerKey.id).scalar_subquery()
    seen = select(func.max(Worker.last_seen_at)).where(Worker.key_id == WorkerKey.id).scalar_subquery()
    return [Counted(*row) for row in session.execute(select(WorkerKey, signed, seen).order_by(WorkerKey.id))]


def signed_since(session: Session, key_id: int, moment: datetime) -> Sequence[Evaluation]:
    """The finished evaluations that this key has signed since then."""
    mine = Evaluation.worker_key_id == key_id, Evaluation.state == "done", Evaluation.finished_at >= moment
    return session.scalars(with_names().where(*mine).order_by(Evaluation.id)).all()


def release_leases(session: Session, key_id: int) -> int:
    """Gives back what workers with this key hold, with a fence that no longer fits theirs. How many jobs that is."""
    mine = select(Worker.id).where(Worker.key_id == key_id)
    held = Evaluation.state == "running", Evaluation.worker_id.in_(mine)
    free = {"state": "waiting", "lease_expires_at": None, "fence": Evaluation.fence + 1, "attempts": 0}
    changed = session.execute(
        update(Evaluation).where(*held).values(**free, worker_id=None).execution_options(synchronize_session=False)
    )
    return int(changed.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an UPDATE


def use_code(session: Session, code_hash: bytes, *, at: datetime) -> int | None:
    """The account that the code is of, for whoever uses it first and in time."""
    good = WorkerCode.hash == code_hash, WorkerCode.used_at.is_(None), WorkerCode.expires_at > at
    return session.scalar(update(WorkerCode).where(*good).values(used_at=at).returning(WorkerCode.account_id))
