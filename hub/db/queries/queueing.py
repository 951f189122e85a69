"""Evaluations that wait or run: the queue that workers are given jobs from.

A lease that has run out makes a job free again: `is_free` is the one place that says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, func, literal, select, update
from sqlalchemy.orm import Session

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter, Base
from hub.db.models.evaluating import Evaluation, Suite, Worker
from hub.db.models.versions import Version
from hub.db.queries.inserting import insert_from, insert_new
from hub.db.queries.versions import is_ranked

_LATELY = 20
# Evaluations are made in float32, whatever the base is stored in.
FLOAT32_BYTES = 4


class Left(NamedTuple):
    """What a worker leaves to another: a suite on the bases that the other has, None for any, and has memory for."""

    suite_id: int
    bases: Sequence[str] | None
    memory_bytes: int | None


def enqueue(session: Session, *, version_id: int, suite_id: int, owner_id: int, at: datetime, **spec: Any) -> bool:
    """Adds a waiting job unless this version and spec have one. True when it was added."""
    values = _waiting(at) | spec
    return insert_new(session, Evaluation, version_id=version_id, suite_id=suite_id, owner_id=owner_id, **values)


def retry_failed(session: Session, version_id: int, spec_digest: str) -> bool:
    """Makes a failed job wait again, with all of its attempts before it. True when it had failed."""
    failed = Evaluation.version_id == version_id, Evaluation.spec_digest == spec_digest, Evaluation.state == "failed"
    waiting = {"state": "waiting", "attempts": 0, "reason": None, "worker_id": None, "short_bytes": None}
    times = {"started_at": None, "finished_at": None}
    changed = session.execute(update(Evaluation).where(*failed).values(**waiting, **times))
    return bool(changed.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an UPDATE


def bases_with_labels(session: Session, labels_sha256: str) -> list[Base]:
    """The bases that have versions with exactly these labels."""
    query = select(Base).join(Version, Version.base_id == Base.id).where(Version.labels_sha256 == labels_sha256)
    return list(session.scalars(query.distinct()))


def enqueue_all(
    session: Session, *, suite_id: int, base_id: int, labels_sha256: str, at: datetime, **spec: Any
) -> None:
    """Adds a waiting job for every version of this base with these labels that has none yet."""
    values = {"suite_id": suite_id, **_waiting(at), **spec}
    columns = [getattr(Evaluation, name) for name in values]
    rows = (
        select(
            Version.id,
            Adapter.account_id,
            *(literal(value, column.type) for column, value in zip(columns, values.values(), strict=True)),
        )
        .join(Version.adapter)
        .where(Version.base_id == base_id, Version.labels_sha256 == labels_sha256, is_ranked())
        .order_by(Version.id)
    )
    insert_from(session, Evaluation, ["version_id", "owner_id", *values], rows)


def fail_exhausted(session: Session, *, at: datetime, max_attempts: int, reason: str) -> None:
    """Ends the jobs whose last permitted lease has run out."""
    gone = Evaluation.state == "running", Evaluation.lease_expires_at <= at, Evaluation.attempts >= max_attempts
    session.execute(
        update(Evaluation).where(*gone).values(state="failed", reason=reason, finished_at=at, lease_expires_at=None)
    )


def fail_waiting(session: Session, suite_name: str, *, at: datetime, reason: str) -> None:
    """Ends the jobs that wait for the present definition of a suite."""
    suite = select(Suite.id).where(Suite.name == suite_name, Suite.is_current)
    waiting = Evaluation.state == "waiting", Evaluation.suite_id.in_(suite)
    session.execute(update(Evaluation).where(*waiting).values(state="failed", reason=reason, finished_at=at))


def fail_open(session: Session, version_id: int, *, at: datetime, reason: str) -> None:
    """Ends the jobs of a version that nobody has finished, also those a worker holds: its result comes too late."""
    is_open = Evaluation.version_id == version_id, Evaluation.state.in_(("waiting", "running"))
    ended = {"state": "failed", "reason": reason, "finished_at": at, "lease_expires_at": None}
    session.execute(update(Evaluation).where(*is_open).values(**ended))


def cancel(session: Session, evaluation_id: int, *, at: datetime, reason: str) -> bool:
    """Ends a job that nobody has finished: its worker, if it has one, loses its lease. True when it was open."""
    is_open = Evaluation.id == evaluation_id, Evaluation.state.in_(("waiting", "running"))
    ended = {"state": "failed", "reason": reason, "finished_at": at, "lease_expires_at": None}
    changed = session.execute(
        update(Evaluation).where(*is_open).values(**ended).execution_options(synchronize_session=False)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an UPDATE


def seconds_each(session: Session, suite_ids: Collection[int]) -> dict[int, float]:
    """How long a job of each of these suites has lately taken, of those that have done any."""
    found = {}
    for suite_id in suite_ids:
        lately = (
            select(Evaluation.seconds)
            .where(Evaluation.suite_id == suite_id, Evaluation.state == "done", Evaluation.seconds.is_not(None))
            .order_by(Evaluation.id.desc())
            .limit(_LATELY)
            .subquery()
        )
        mean = session.scalar(select(func.avg(lately.c.seconds)))
        if mean is not None:
            found[suite_id] = float(mean)
    return found


def next_free(
    session: Session,
    suite_ids: Sequence[int],
    suite_names: Sequence[str],
    bases: Sequence[str] | None,
    *,
    memory_bytes: int | None,
    left: Sequence[Left] = (),
    at: datetime,
) -> int | None:
    """The job that is next of those whose base is one of `bases` and has room in the memory, but for what is `left` to others: the oldest of the owner with the fewest running, and of equals the one who
    was served longest ago, so that nobody's thousand jobs keep another's one waiting."""
    fitting = (
        select(Evaluation.owner_id, func.min(Evaluation.id).label("oldest"))
        .join(Evaluation.suite)
        .where(is_free(at), Suite.is_current, Suite.id.in_(suite_ids), Suite.name.in_(suite_names))
        .group_by(Evaluation.owner_id)
    )
    if bases is not None or memory_bytes is not None or left:
        fitting = fitting.join(Evaluation.version).join(Version.base)
    fitting = fitting.where(*_can_be_run(bases, memory_bytes))
    for suite_id, theirs, room in left:
        fitting = fitting.where(~and_(Evaluation.suite_id == suite_id, *_can_be_run(theirs, room)))
    free = fitting.subquery()
    running = (
        select(Evaluation.owner_id, func.count().label("jobs"))
        .where(Evaluation.state == "running", Evaluation.lease_expires_at > at)
        .group_by(Evaluation.owner_id)
        .subquery()
    )
    return session.scalar(
        select(free.c.oldest)
        .join(Account, Account.id == free.c.owner_id)
        .outerjoin(running, running.c.owner_id == free.c.owner_id)
        .order_by(func.coalesce(running.c.jobs, 0), Account.served_at.asc().nulls_first(), free.c.oldest)
        .limit(1)
    )


def hold_free(session: Session, evaluation_id: int, *, at: datetime) -> Evaluation | None:
    """The job, locked until the transaction ends; None when another worker was faster."""
    query = select(Evaluation).where(Evaluation.id == evaluation_id, is_free(at))
    return session.scalar(query.with_for_update().execution_options(populate_existing=True))


def note_turn(session: Session, owner_id: int, *, at: datetime) -> None:
    session.execute(update(Account).where(Account.id == owner_id).values(served_at=at))


def update_held(
    session: Session, evaluation_id: int, *, token_id: int, fence: int, at: datetime, **values: Any
) -> bool:
    """Writes `values` if this token still holds the lease with this fence. True when it did."""
    mine = select(Worker.id).where(Worker.token_id == token_id)
    held = (
        Evaluation.id == evaluation_id,
        Evaluation.state == "running",
        Evaluation.fence == fence,
        Evaluation.worker_id.in_(mine),
        Evaluation.lease_expires_at > at,
    )
    changed = session.execute(
        update(Evaluation).where(*held).values(**values).execution_options(synchronize_session=False)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an UPDATE


def _can_be_run(bases: Sequence[str] | None, memory_bytes: int | None) -> list[ColumnElement[bool]]:
    """Of jobs with their bases: those for which a worker with these bases has room, as far as is known."""
    found: list[ColumnElement[bool]] = []
    if bases is not None:
        found.append(Base.fingerprint.in_(bases))
    if memory_bytes is not None:
        was_enough = Evaluation.short_bytes.is_(None) | (Evaluation.short_bytes < memory_bytes)
        found += [Base.parameters <= memory_bytes // FLOAT32_BYTES, was_enough]
    return found


def _waiting(at: datetime) -> dict[str, Any]:
    return {"state": "waiting", "fence": 0, "attempts": 0, "environment": {}, "created_at": at}


def is_free(at: datetime) -> ColumnElement[bool]:
    """True of a job that waits, one whose worker was lost among them."""
    return (Evaluation.state == "waiting") | ((Evaluation.state == "running") & (Evaluation.lease_expires_at <= at))
