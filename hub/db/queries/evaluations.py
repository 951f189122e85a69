"""Evaluations and their scores. What waits or runs is in `hub.db.queries.queueing`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from functools import cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, case, func, literal_column, select, update
from sqlalchemy.orm import Session, aliased, joinedload, undefer

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter, Base
from hub.db.models.evaluating import Evaluation, HiddenScore, Suite
from hub.db.models.finding import Listing
from hub.db.models.versions import Version
from hub.db.queries.inserting import insert_new
from hub.db.queries.versions import is_ranked
from hub.db.queries.visibility import Viewer, is_of_visible_adapter
from vera.metrics import ADVISORY

_EVALUATIONS = Evaluation.__table__.c
# Made once, of columns alone: every answer about a version asks for it.
_IS_THERE = select(_EVALUATIONS.id).where(_EVALUATIONS.version_id == bindparam("version_id")).limit(1)


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


def with_items(session: Session, evaluation_id: int) -> Evaluation | None:
    """An evaluation with all that was found of its items, and the salt of their digests."""
    found = (Evaluation.outcomes, Evaluation.beside_outcomes, Evaluation.salt)
    query = select(Evaluation).where(Evaluation.id == evaluation_id).options(*map(undefer, found))
    return session.scalar(query.options(joinedload(Evaluation.suite)))


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
    state: ColumnElement[str] = Evaluation.state.expression
    if session.get_bind().dialect.name == "sqlite":  # which would go through all that are done, rather than these
        state = literal_column("+evaluations.state", Evaluation.state.type)
    query = (
        with_names()
        .options(joinedload(Evaluation.worker_key))
        .join(Suite, Suite.id == Evaluation.suite_id)
        .where(Evaluation.version_id.in_(version_ids), state == "done", Suite.is_current)
        .where(Suite.metric.not_in(ADVISORY))
        .order_by(Evaluation.score.desc(), Evaluation.id)
    )
    return list(session.scalars(query))


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
