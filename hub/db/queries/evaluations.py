"""Evaluations, and the queue that they are while they wait.

A lease that has run out makes a job free again: `_is_free` is the one place that says so.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, and_, bindparam, case, func, literal, select, update
from sqlalchemy.orm import Session, aliased, joinedload, undefer

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter, Base
from hub.db.models.evaluating import Evaluation, HiddenScore, Suite, Worker
from hub.db.models.finding import Listing
from hub.db.models.versions import Version
from hub.db.queries.inserting import insert_from, insert_new
from hub.db.queries.versions import is_ranked
from hub.db.queries.visibility import Viewer, is_of_visible_adapter
from vera.metrics import ADVISORY

_LATELY = 20
# Made once: every answer about a version asks for it.
_IS_THERE = select(Evaluation.id).where(Evaluation.version_id == bindparam("version_id")).limit(1)
# Evaluations are made in float32, whatever the base is stored in.
FLOAT32_BYTES = 4


class Placed(NamedTuple):
    """An evaluation and its place in the queue, from 1, while it waits."""

    evaluation: Evaluation
    position: int | None


class Narrowed(NamedTuple):
    """What a board is narrowed down to. `base` is a fingerprint or a name, `max_bytes` of the whole archive,
    and `license` that of the adapter's latest version."""

    base: str | None = None
    owner: str | None = None
    license: str | None = None
    min_rank: int | None = None
    max_rank: int | None = None
    max_bytes: int | None = None
    method: str | None = None


class Left(NamedTuple):
    """What a worker leaves to another: a suite on the bases that the other has, None for any, and has memory for."""

    suite_id: int
    bases: Sequence[str] | None
    memory_bytes: int | None


class Scored(NamedTuple):
    """A finished evaluation with the outcomes that its score is made of."""

    evaluation: Evaluation
    outcomes: bytes


def by_id(session: Session, evaluation_id: int) -> Placed | None:
    return _first(session, _placed().where(Evaluation.id == evaluation_id))


def visible_by_id(session: Session, viewer: Viewer, evaluation_id: int) -> Placed | None:
    return _first(session, _placed().where(Evaluation.id == evaluation_id, is_of_visible_adapter(viewer)))


def by_key(session: Session, version_id: int, spec_digest: str) -> Placed | None:
    key = Evaluation.version_id == version_id, Evaluation.spec_digest == spec_digest
    return _first(session, _placed().where(*key))


def is_open_or_done(session: Session, version_id: int, spec_digest: str) -> bool:
    """Whether there is one that waits, runs or has a score."""
    key = Evaluation.version_id == version_id, Evaluation.spec_digest == spec_digest, Evaluation.state != "failed"
    return session.scalar(select(Evaluation.id).where(*key)) is not None


def of_version(session: Session, version_id: int) -> list[Placed]:
    """Those of one version, the earliest first. Most versions have none, and finding that out takes a tenth of the time."""
    if session.scalar(_IS_THERE, {"version_id": version_id}) is None:
        return []
    return [Placed(*row) for row in session.execute(_of_version(), {"version_id": version_id})]


def signed(session: Session, evaluation_id: int) -> Evaluation | None:
    """An evaluation with what its worker has signed of it; None where there is no signature."""
    query = select(Evaluation).where(Evaluation.id == evaluation_id, Evaluation.envelope.is_not(None))
    return session.scalar(query.options(undefer(Evaluation.envelope), joinedload(Evaluation.worker_key)))


def scored(session: Session, evaluation_id: int) -> Scored | None:
    """A finished evaluation, or None when it is not finished."""
    row = session.execute(_scored().where(Evaluation.id == evaluation_id)).first()
    return Scored(*row) if row else None


def done_after(session: Session, evaluation_id: int, suite: str | None, *, limit: int) -> Sequence[Evaluation]:
    """Finished evaluations beyond an id, with all that was found, those by a suite of this name or by any."""
    query = with_names().options(undefer(Evaluation.outcomes), undefer(Evaluation.beside_outcomes))
    query = query.where(Evaluation.state == "done", Evaluation.id > evaluation_id)
    if suite is not None:
        query = query.where(Evaluation.suite_id.in_(select(Suite.id).where(Suite.name == suite)))
    return session.scalars(query.order_by(Evaluation.id).limit(limit)).all()


def rewrite_scores(
    session: Session, evaluation: Evaluation, ranked: Sequence[float | None], beside: dict[str, list[float]]
) -> bool:
    """Gives a finished evaluation other numbers: score, low and high, and those of the metrics beside. True unless it
    was measured anew since it was read."""
    score, low, high = ranked
    as_read = Evaluation.id == evaluation.id, Evaluation.state == "done", Evaluation.fence == evaluation.fence
    changed = session.execute(
        update(Evaluation)
        .where(*as_read)
        .values(score=score, low=low, high=high, beside=beside)
        .execution_options(synchronize_session=False)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an UPDATE


def board(
    session: Session,
    viewer: Viewer,
    suite_id: int,
    narrowed: Narrowed,
    *,
    lowest_first: bool = False,
    limit: int | None = None,
) -> list[Scored]:
    """Every visible finished evaluation of a suite's definition, best first; of equals, the smaller, then the earlier.

    Versions that were taken back are not among them.
    """
    query = _scored().where(Evaluation.suite_id == suite_id, is_of_visible_adapter(viewer), is_ranked())
    query = query.where(*_within(narrowed))
    best_first = Evaluation.score.asc() if lowest_first else Evaluation.score.desc()
    order = best_first, Version.vector_bytes, Evaluation.finished_at, Evaluation.id
    return [Scored(*row) for row in session.execute(query.order_by(*order).limit(limit))]


def charge(session: Session, evaluation_id: int, account_id: int) -> None:
    """Counts the score of this evaluation for the account. Twice is once."""
    insert_new(session, HiddenScore, evaluation_id=evaluation_id, account_id=account_id)


def scored_since(session: Session, suite_name: str, account_id: int, *, since: datetime) -> list[datetime]:
    """When what counts for an account was scored by a suite of this name since then, or is about to be, in their order."""
    at = func.coalesce(Evaluation.finished_at, Evaluation.created_at)
    counted = (Evaluation.state.in_(("waiting", "running"))) | ((Evaluation.state == "done") & (at > since))
    named = select(Suite.id).where(Suite.name == suite_name)
    theirs = select(HiddenScore.evaluation_id).where(HiddenScore.account_id == account_id)
    query = select(at).where(Evaluation.id.in_(theirs), Evaluation.suite_id.in_(named), counted)
    return list(session.scalars(query.order_by(at)))


def record_ids(
    session: Session, viewer: Viewer, suite_id: int, narrowed: Narrowed, *, lowest_first: bool = False
) -> list[int]:
    """The evaluations that were better than all before them when they were finished, the first first."""
    sign = -1.0 if lowest_first else 1.0
    gone_before = func.max(sign * Evaluation.score).over(
        order_by=(Evaluation.finished_at, Evaluation.id), rows=(None, -1)
    )
    height = (sign * Evaluation.score).label("height")
    each = (
        select(Evaluation.id, Evaluation.finished_at, height, gone_before.label("before"))
        .join(Version, Version.id == Evaluation.version_id)
        .join(Base, Base.id == Version.base_id)
        .where(Evaluation.suite_id == suite_id, Evaluation.state == "done", is_of_visible_adapter(viewer), is_ranked())
        .where(*_within(narrowed))
        .subquery()
    )
    is_record = each.c.before.is_(None) | (each.c.height > each.c.before)
    return list(session.scalars(select(each.c.id).where(is_record).order_by(each.c.finished_at, each.c.id)))


def by_ids(session: Session, evaluation_ids: Collection[int]) -> dict[int, Evaluation]:
    return {each.id: each for each in session.scalars(with_names().where(Evaluation.id.in_(evaluation_ids)))}


def finished_of(session: Session, version_ids: Sequence[int]) -> list[Evaluation]:
    """The finished evaluations of these versions on suites as they are now, best first."""
    query = (
        with_names()
        .options(joinedload(Evaluation.worker_key))
        .join(Suite, Suite.id == Evaluation.suite_id)
        .where(Evaluation.version_id.in_(version_ids), Evaluation.state == "done", Suite.is_current)
        .where(Suite.metric.not_in(ADVISORY))
        .order_by(Evaluation.score.desc(), Evaluation.id)
    )
    return list(session.scalars(query))


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
        .where(_is_free(at), Suite.is_current, Suite.id.in_(suite_ids), Suite.name.in_(suite_names))
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
    query = select(Evaluation).where(Evaluation.id == evaluation_id, _is_free(at))
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


def _within(narrowed: Narrowed) -> list[ColumnElement[bool]]:
    base, owner, license_, min_rank, max_rank, max_bytes, method = narrowed
    licensed = select(Listing.adapter_id).where(Listing.license == (license_ or "").lower())
    owned = select(Adapter.id).join(Account, Account.id == Adapter.account_id).where(Account.name == owner)
    asked = (
        (base, (Base.fingerprint == base) | (Base.name == base)),
        (owner, Version.adapter_id.in_(owned)),
        (license_, Version.adapter_id.in_(licensed)),
        (min_rank, Version.rank >= (min_rank or 0)),
        (max_rank, Version.rank <= (max_rank or 0)),
        (max_bytes, Version.size_bytes <= (max_bytes or 0)),
        (method, Version.method == method),
    )
    return [condition for value, condition in asked if value is not None]


def _waiting(at: datetime) -> dict[str, Any]:
    return {"state": "waiting", "fence": 0, "attempts": 0, "environment": {}, "created_at": at}


def _is_free(at: datetime) -> ColumnElement[bool]:
    return (Evaluation.state == "waiting") | ((Evaluation.state == "running") & (Evaluation.lease_expires_at <= at))


@cache
def _of_version() -> Select[Evaluation, int | None]:
    """Made once: every answer about a version asks for it, and making it takes longer than running it."""
    return _placed().where(Evaluation.version_id == bindparam("version_id")).order_by(Evaluation.id)


def _placed() -> Select[Evaluation, int | None]:
    earlier = aliased(Evaluation)
    place = (
        select(func.count())
        .where(earlier.state == "waiting", earlier.id <= Evaluation.id)
        .correlate(Evaluation)
        .scalar_subquery()
    )
    place_of = case((Evaluation.state == "waiting", place), else_=None)
    return with_names().options(joinedload(Evaluation.worker_key)).add_columns(place_of)


def _scored() -> Select[Evaluation, bytes]:
    return (
        with_names()
        .add_columns(Evaluation.outcomes)
        .join(Version, Version.id == Evaluation.version_id)
        .join(Base, Base.id == Version.base_id)
        .where(Evaluation.state == "done")
    )


def with_names() -> Select[Evaluation]:
    """Evaluations with all that names them: version, adapter, owner, base, suite and worker."""
    version = joinedload(Evaluation.version)
    return select(Evaluation).options(
        version.joinedload(Version.adapter).joinedload(Adapter.account),
        version.joinedload(Version.base),
        version.joinedload(Version.created_by),
        joinedload(Evaluation.suite),
        joinedload(Evaluation.worker),
    )


def _first(session: Session, query: Select[Evaluation, int | None]) -> Placed | None:
    row = session.execute(query).first()
    return Placed(*row) if row else None
