"""The evaluation queue as a worker sees it: claim, keep the lease, hand in.

A lease is held by showing its fence. Whatever comes after the lease has run out, or after another
worker took the job, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db import session as db
from hub.db.models.evaluating import Evaluation, Worker
from hub.db.queries import evaluations, listings, moves, queueing, workers
from hub.domain import blobs, enrolling, matching
from hub.domain.evaluations import canonical, pack, parse_id
from hub.domain.matching import LEASE
from hub.domain.shaping import metrics_beside, ref_of
from hub.domain.views.evaluations import Job, JobBase
from hub.errors import Conflict, HubError, Invalid, NotFound
from hub.scoring import metrics, statistics
from hub.scoring.metrics import Outcome
from hub.storage.blobs import BlobStore
from vera import attestation
from vera.attestation import Evaluated
from vera.errors import SignatureError
from vera.signing import PublicKey

MAX_ATTEMPTS = 3
OUT_OF_MEMORY = "OUT_OF_MEMORY"
_NOTE_SEEN_EVERY = timedelta(seconds=15)
_CLAIM_TRIES = 3
MAX_ENVIRONMENT = 16 * 1024
_MAX_REASON = 2000


class Measured(NamedTuple):
    """What a job asks of the worker that holds it: the metric that ranks, those that stand beside it, and the key and the
    facts that its signature must be of. `former_refs` are what the version was called before its adapter moved."""

    metric: str
    beside: tuple[str, ...]
    key: PublicKey
    about: Evaluated
    former_refs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a worker found. `outcomes[i]` is what item i was worth, as the suite's metric needs it; `beside` has outcomes,
    score and interval of each metric beside it; `outside` as for an upload."""

    outcomes: tuple[Outcome, ...]
    score: float
    interval: tuple[float, float]
    outputs: bytes
    environment: Mapping[str, Any]
    seconds: float
    envelope: str
    beside: Mapping[str, tuple[tuple[Outcome, ...], float, tuple[float, float]]] = field(default_factory=dict)
    outside: Mapping[str, datetime] = field(default_factory=dict)
    salt: str | None = None


def claim_job(
    session: Session,
    principal: Principal,
    worker_id: str,
    suite_names: Sequence[str],
    *,
    bases: Sequence[str] | None = None,
) -> Job | None:
    """The next job for this worker among the suites and bases it names, leased to it; None when there is none.

    `bases` are the fingerprints it can load; None is any.

    Raises NotFound for a worker that this token did not register, or whose key is not known, and Forbidden for one that
    was shut out.
    """
    at = db.now(session)
    worker = workers.of_token(session, _worker_number(worker_id), principal.token_id)
    if worker is None or worker.key is None:
        raise _unknown_worker(worker_id)
    enrolling.require_good(worker.key)
    workers.note_seen(session, worker.id, at=at, at_most_every=_NOTE_SEEN_EVERY)
    if bases != worker.bases:
        worker.bases = None if bases is None else list(bases)
    queueing.fail_exhausted(
        session,
        at=at,
        max_attempts=MAX_ATTEMPTS,
        reason=f"Its worker stopped answering, {MAX_ATTEMPTS} times: see the worker's log.",
    )
    free = _hold_next(session, worker, suite_names, at)
    if free is None:
        return None
    free.state, free.worker_id, free.lease_expires_at = "running", worker.id, at + LEASE
    free.fence, free.attempts = free.fence + 1, free.attempts + 1
    free.started_at, free.reason, free.items_done = at, None, None
    queueing.note_turn(session, free.owner_id, at=at)
    session.flush()
    return _job(session, free.id)


def extend_lease(
    session: Session, principal: Principal, job_id: str, fence: int, *, items_done: int | None = None
) -> None:
    """Keeps the job for another lease; so many of its items are answered, where that is known. Raises Conflict when it is no
    longer this worker's, and Invalid for more items than its suite has."""
    at = db.now(session)
    job = _find(session, job_id)
    if items_done is not None and items_done > job.suite.items:
        raise Invalid(
            f"{items_done} items are said to be answered, and {job.suite.name} has {job.suite.items}.",
            code="PROGRESS_INVALID",
        )
    _write(session, principal, job, fence, at, lease_expires_at=at + LEASE, items_done=items_done)
    if job.worker_id is not None:
        workers.note_seen(session, job.worker_id, at=at, at_most_every=_NOTE_SEEN_EVERY)


def measured_by(session: Session, principal: Principal, job_id: str, fence: int) -> Measured:
    """What the job asks of this worker. Raises NotFound, Conflict when it is no longer this worker's, and Forbidden for a
    worker that was shut out."""
    job = _find(session, job_id)
    worker = workers.of_token(session, job.worker_id or 0, principal.token_id)
    if job.state != "running" or job.fence != fence or worker is None or worker.key is None:
        raise _refusal(job, fence)
    enrolling.require_good(worker.key)
    key = PublicKey.parse(worker.key.public_key)
    former = tuple(f"{name}@v{job.version.number}" for name in moves.former_names(session, job.version.adapter_id))
    return Measured(job.suite.metric, metrics_beside(job.suite), key, _unanswered(job), former)


def check_result(
    measured: Measured,
    outcomes: Sequence[Outcome],
    outputs: Sequence[str],
    environment: Mapping[str, Any],
    seconds: float,
    *,
    envelope: Mapping[str, Any],
    beside: Mapping[str, Sequence[Outcome]] | None = None,
    salt: str | None = None,
) -> Result:
    """The result that these are, with its scores. It may take a second: no transaction should be open. `beside` are the
    outcomes of the metrics beside the one that ranks, as far as they were computed. `envelope` is what the worker has
    signed of it. Raises Invalid."""
    if unknown := sorted(set(beside or {}) - set(measured.beside)):
        raise _bad_result(f"its suite does not measure {', '.join(unknown)[:200]}")
    for each in (outcomes, *(beside or {}).values()):
        if not each or len(each) != len(outputs):
            raise _bad_result(f"it has {len(each)} outcomes and {len(outputs)} outputs")
    if len(canonical(environment)) > MAX_ENVIRONMENT:
        raise _bad_result(f"its environment takes more than {MAX_ENVIRONMENT:,} bytes")
    score, interval = _scored(measured.metric, outcomes)
    found = {metric: (tuple(each), *_scored(metric, each)) for metric, each in (beside or {}).items()}
    evaluated = replace(
        measured.about,
        outcomes={measured.metric: outcomes, **(beside or {})},
        scores={measured.metric: score, **{metric: each[1] for metric, each in found.items()}},
        outputs=outputs,
        environment=environment,
        seconds=seconds,
        salt=salt,
    )
    _require_signed(envelope, measured, evaluated)
    signed = json.dumps(envelope, separators=(",", ":"))
    return Result(tuple(outcomes), score, interval, pack(list(outputs)), environment, seconds, signed, found, salt=salt)


def put_large_outputs(objects: BlobStore | None, result: Result) -> Result:
    """`result` with its outputs put into the object store, when there is one and they are large."""
    return replace(result, outside=blobs.put_large(objects, [result.outputs]))


def finish_job(session: Session, principal: Principal, job_id: str, fence: int, result: Result) -> None:
    """Ends the job with its score. Raises Conflict when it is no longer this worker's, Invalid for a wrong result."""
    at, job = db.now(session), _find(session, job_id)
    if len(result.outcomes) != job.suite.items:
        raise _bad_result(f"it has {len(result.outcomes)} outcomes and the suite {job.suite.items} items")
    low, high = result.interval
    listings.hold_adapter_of(session, job.id)  # first, as whoever takes the version back does
    _write(
        session,
        principal,
        job,
        fence,
        at,
        state="done",
        score=result.score,
        low=low,
        high=high,
        outcomes=pack(list(result.outcomes)),
        beside_outcomes=pack({metric: list(each) for metric, (each, _, _) in result.beside.items()}),
        beside={metric: [score, *interval] for metric, (_, score, interval) in result.beside.items()},
        outputs_sha256=blobs.record(session, result.outputs, result.outside),
        environment=dict(result.environment),
        seconds=result.seconds,
        envelope=result.envelope,
        salt=result.salt,
        worker_key_id=_key_id_of(session, job),
        reason=None,
        finished_at=at,
        lease_expires_at=None,
    )
    listings.add_score(session, job.id)


def report_failure(
    session: Session, principal: Principal, job_id: str, fence: int, *, code: str, detail: str, is_retryable: bool
) -> None:
    """Gives the job back to the queue, or ends it when trying again is of no use or was tried often enough. Where memory ran
    short it waits for a worker with more, and that was no attempt.

    Raises Conflict when the job is no longer this worker's.
    """
    at, job = db.now(session), _find(session, job_id)
    reason = f"{code}: {detail}"[:_MAX_REASON]
    short_bytes = _memory_of(session, job) if code == OUT_OF_MEMORY and is_retryable else None
    if short_bytes is not None:
        waits = {"state": "waiting", "reason": reason, "lease_expires_at": None}
        _write(session, principal, job, fence, at, **waits, attempts=job.attempts - 1, short_bytes=short_bytes)
    elif is_retryable and job.attempts < MAX_ATTEMPTS:
        _write(session, principal, job, fence, at, state="waiting", reason=reason, lease_expires_at=None)
    else:
        _write(session, principal, job, fence, at, state="failed", reason=reason, lease_expires_at=None, finished_at=at)


def _scored(metric: str, outcomes: Sequence[Outcome]) -> tuple[float, tuple[float, float]]:
    try:
        return metrics.score(metric, outcomes), statistics.interval(metric, outcomes)
    except ValueError as error:
        raise _bad_result(f"of {metric}: {error}".removesuffix(".")) from error


def _unanswered(job: Evaluation) -> Evaluated:
    """What a signed statement about this job must say, without the result."""
    version = job.version
    return Evaluated(
        job=str(job.id),
        fence=job.fence,
        ref=ref_of(version),
        version_digest=version.digest,
        weights_digest=version.weights_digest,
        spec=job.spec,
        spec_digest=job.spec_digest,
        outcomes={},
        scores={},
        outputs=(),
        environment={},
        seconds=0.0,
    )


def _require_signed(envelope: Mapping[str, Any], measured: Measured, evaluated: Evaluated) -> None:
    """Raises Invalid unless this worker has signed that very result, by the name that the version has or had when the
    job was given out."""
    try:
        statement = attestation.check(envelope, measured.key)
        ref = statement["predicate"].get("ref")
        attestation.check_says(statement, replace(evaluated, ref=ref) if ref in measured.former_refs else evaluated)
    except SignatureError as error:
        raise Invalid(str(error), code=error.code, **error.facts) from error


def _memory_of(session: Session, job: Evaluation) -> int | None:
    worker = workers.by_id(session, job.worker_id) if job.worker_id is not None else None
    return worker.memory_bytes if worker is not None else None


def _key_id_of(session: Session, job: Evaluation) -> int | None:
    worker = workers.by_id(session, job.worker_id) if job.worker_id is not None else None
    return worker.key_id if worker is not None else None


def _hold_next(session: Session, worker: Worker, suite_names: Sequence[str], at: datetime) -> Evaluation | None:
    """The next free job, locked. Where many servers share a database, another one may be faster."""
    left = matching.left_to_others(session, worker, at)
    for _ in range(_CLAIM_TRIES):
        candidate = queueing.next_free(
            session, worker.suite_ids, suite_names, worker.bases, memory_bytes=worker.memory_bytes, left=left, at=at
        )
        if candidate is None:
            return None
        held = queueing.hold_free(session, candidate, at=at)
        if held is not None:
            return held
    return None


def _job(session: Session, evaluation_id: int) -> Job:
    placed = evaluations.by_id(session, evaluation_id)
    assert placed is not None
    evaluation, version = placed.evaluation, placed.evaluation.version
    return Job(
        id=str(evaluation.id),
        fence=evaluation.fence,
        ref=ref_of(version),
        version_digest=version.digest,
        weights_digest=version.weights_digest,
        commit=version.commit,
        suite=evaluation.suite.name,
        spec=evaluation.spec,
        spec_digest=evaluation.spec_digest,
        base=JobBase(version.base.name, version.base.revision, version.base.fingerprint),
        lease_seconds=int(LEASE.total_seconds()),
    )


def _find(session: Session, job_id: str) -> Evaluation:
    placed = evaluations.by_id(session, parse_id(job_id))
    if placed is None:
        raise NotFound(f"There is no job {job_id[:40]} here: claim one.", code="JOB_UNKNOWN")
    return placed.evaluation


def _write(session: Session, principal: Principal, job: Evaluation, fence: int, at: datetime, **values: Any) -> None:
    """Writes to the job in one compare-and-set on the lease. Raises Conflict when it is not held."""
    if queueing.update_held(session, job.id, token_id=principal.token_id, fence=fence, at=at, **values):
        return
    raise _refusal(job, fence)


def _refusal(job: Evaluation, fence: int) -> HubError:
    if job.state == "done" and job.fence == fence:
        return Conflict(
            f"The job {job.id} has its result already: nothing was changed.", code="RESULT_DUPLICATE", job=str(job.id)
        )
    return Conflict(
        f"The job {job.id} is no longer this worker's (its lease ran out, or it was given on): drop it and claim another.",
        code="LEASE_EXPIRED",
        job=str(job.id),
    )


def _worker_number(worker_id: str) -> int:
    try:
        return parse_id(worker_id)
    except NotFound as error:
        raise _unknown_worker(worker_id) from error


def _unknown_worker(worker_id: str) -> NotFound:
    return NotFound(f"This token has registered no worker {worker_id[:40]}: register first.", code="WORKER_UNKNOWN")


def _bad_result(what: str) -> Invalid:
    return Invalid(f"The result cannot be kept: {what}.", code="RESULT_INVALID")
