"""Which worker takes which job, and why one waits.

A worker can take a job when it has the suite, the base and memory enough. One that cannot compute every metric of a suite leaves
it to those that can, as long as there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.db.models.evaluating import Evaluation, Worker
from hub.db.queries import suites, workers
from hub.db.queries.queueing import FLOAT32_BYTES, Left

# A worker polls every few seconds; one that was silent for this long is not there.
WORKER_SILENCE = timedelta(seconds=60)
# A job is its worker's for this long after each word of it. When half of it has passed, two heartbeats are missing.
LEASE = timedelta(seconds=60)


def workers_there(session: Session, at: datetime) -> list[Worker]:
    return workers.seen_since(session, at - WORKER_SILENCE)


def left_to_others(session: Session, worker: Worker, at: datetime) -> list[Left]:
    """What this worker leaves to others, which can compute what it cannot: a suite on the bases that such a one can load."""
    if not worker.lacks:
        return []
    found, there = [], workers_there(session, at)
    for name in worker.lacks:
        suite = suites.current(session, name)
        if suite is not None:
            found += [
                Left(suite.id, each.bases, each.memory_bytes) for each in there if _is_whole(each, suite.id, name)
            ]
    return found


def able_of(evaluation: Evaluation, there: Sequence[Worker]) -> list[Worker]:
    """Those that will take the job sooner or later."""
    able = [each for each in there if _has_all(evaluation, each)]
    whole = [each for each in able if not _lacking(each, evaluation.suite.name)]
    return whole or able


def why_nobody_comes(evaluation: Evaluation, there: Sequence[Worker]) -> str | None:
    """Why none of the workers that are there will take the job; None when one will."""
    if not there:
        return "No worker is connected: start one with `vera-hub worker`."
    suite, base = evaluation.suite.name, evaluation.version.base
    able = [worker for worker in there if evaluation.suite_id in worker.suite_ids]
    if not able:
        return _why_nobody_can(suite, there)
    able = [worker for worker in able if worker.bases is None or base.fingerprint in worker.bases]
    if not able:
        return f"No connected worker has the base {base.name}: run `vera-hub base add` where the worker runs."
    return None if any(_has_room(evaluation, each) for each in able) else _why_no_room(evaluation, able)


def why_it_is_left(evaluation: Evaluation, there: Sequence[Worker]) -> str | None:
    """For whom the job waits, where others that are there lack something for it."""
    suite = evaluation.suite.name
    able = [each for each in there if _has_all(evaluation, each)]
    whole = [each.name for each in able if not _lacking(each, suite)]
    if not whole or len(whole) == len(able):
        return None
    return f"It waits for {', '.join(sorted(whole))}. {_said(suite, able)}"


def _has_all(evaluation: Evaluation, worker: Worker) -> bool:
    has_base = worker.bases is None or evaluation.version.base.fingerprint in worker.bases
    return evaluation.suite_id in worker.suite_ids and has_base and _has_room(evaluation, worker)


def _has_room(evaluation: Evaluation, worker: Worker) -> bool:
    """By what the base takes in float32, and by what was too little before."""
    there, short = worker.memory_bytes, evaluation.short_bytes
    needed = evaluation.version.base.parameters * FLOAT32_BYTES
    return there is None or (there >= needed and (short is None or there > short))


def _is_whole(worker: Worker, suite_id: int, name: str) -> bool:
    return suite_id in worker.suite_ids and not _lacking(worker, name)


def _lacking(worker: Worker, suite: str) -> Mapping[str, str]:
    return (worker.lacks or {}).get(suite, {})


def _why_nobody_can(suite: str, there: Sequence[Worker]) -> str:
    if said := _said(suite, there):
        return f"No connected worker can run {suite}. {said}"
    return f"No connected worker can run {suite}: start one that knows the suite."


def _said(suite: str, there: Sequence[Worker]) -> str:
    """What workers say of what they lack for a suite, each thing once."""
    by_reason: dict[str, list[str]] = {}
    for worker in there:
        for reason in _lacking(worker, suite).values():
            by_reason.setdefault(reason, []).append(worker.name)
    return " ".join(f"On {', '.join(sorted(names))}: {reason}" for reason, names in sorted(by_reason.items()))


def _why_no_room(evaluation: Evaluation, able: Sequence[Worker]) -> str:
    base = evaluation.version.base
    needed, largest = base.parameters * FLOAT32_BYTES, max(each.memory_bytes or 0 for each in able)
    if largest < needed:
        return (
            f"No connected worker has memory enough for the base {base.name}: in float32 it takes {_size(needed)}, and "
            f"the largest of them has {_size(largest)}. Start one with more."
        )
    return (
        f"No connected worker has memory enough for one item at a time: {_size(evaluation.short_bytes or 0)} were too little, "
        f"and the largest of them has {_size(largest)}. Start one with more."
    )


def _size(octets: int) -> str:
    return f"{octets / 1e9:,.1f} GB" if octets >= 1e8 else f"{octets:,} bytes"
