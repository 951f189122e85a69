"""`admin rescore`: every score anew from the outcomes that are stored, as when the code that scores had a fault.

No adapter is run: a score is a function of one outcome per item. What is as it was is not written.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hub.db.models.evaluating import Evaluation
from hub.db.queries import evaluations, listings
from hub.db.session import Database
from hub.domain.evaluations import unpack, unpack_beside
from hub.domain.shaping import noise_of, ref_of
from hub.errors import NotFound
from hub.scoring import metrics, statistics
from hub.scoring.metrics import Outcome

# Short transactions: a long one would keep a database in use from clearing its log.
_AT_ONCE = 50
# Another machine may sum in another order; a score that differs by less is the same.
_SAME = 1e-9

Score = tuple[float, float, float]  # with the interval's low and high end


@dataclass(frozen=True)
class Rescored:
    """A score that is another now, or, with `detail`, one that cannot be computed: it stays as it is. `noise` is how far
    another layout of the batches has moved it, where that was measured."""

    evaluation_id: str
    ref: str
    suite: str
    metric: str
    before: Score | None
    after: Score | None
    detail: str | None = None
    noise: float | None = None

    @property
    def is_noise(self) -> bool:
        """True for a change no larger than what another layout does."""
        if self.before is None or self.after is None or self.noise is None:
            return False
        return abs(self.after[0] - self.before[0]) <= self.noise


def rescore(database: Database, *, suite: str | None = None, is_rehearsal: bool = False) -> Iterator[Rescored]:
    """Each score that changes, by the id of its evaluation; of one suite (every definition of it), or of all. Twice is the
    same as once. Raises NotFound for a suite that nothing was scored by."""
    after = 0
    while True:
        with database.reading() as session:
            some = evaluations.done_after(session, after, suite, limit=_AT_ONCE)
        if not some and suite is not None and after == 0:
            raise NotFound(
                f"Nothing was scored by a suite {suite[:130]}: `vera-hub suites` lists them.", code="SUITE_UNKNOWN"
            )
        if not some:
            return
        for each in some:
            changes = _changes(each)
            is_written = is_rehearsal or not any(change.after for change in changes) or _write(database, each, changes)
            yield from changes if is_written else ()
        after = some[-1].id


def _changes(evaluation: Evaluation) -> list[Rescored]:
    assert evaluation.score is not None
    assert evaluation.low is not None
    assert evaluation.high is not None
    stored: dict[str, Score] = {evaluation.suite.metric: (evaluation.score, evaluation.low, evaluation.high)}
    stored |= {metric: (score, low, high) for metric, (score, low, high) in (evaluation.beside or {}).items()}
    changes, noise = [], noise_of(evaluation)
    for metric, before in stored.items():
        about = str(evaluation.id), ref_of(evaluation.version), evaluation.suite.name, metric, before
        try:
            after = _score(metric, _outcomes(evaluation)[metric])
        except (KeyError, ValueError, zlib.error) as error:
            changes.append(Rescored(*about, None, f"its outcomes do not give a score: {error}"))
        else:
            changes += (
                []
                if _is_same(before, after)
                else [Rescored(*about, after, noise=noise if metric == evaluation.suite.metric else None)]
            )
    return changes


def _outcomes(evaluation: Evaluation) -> Mapping[str, Sequence[Outcome]]:
    assert evaluation.outcomes is not None
    beside = unpack_beside(evaluation.beside_outcomes) if evaluation.beside_outcomes else {}
    return {**beside, evaluation.suite.metric: unpack(evaluation.outcomes)}


def _score(metric: str, outcomes: Sequence[Outcome]) -> Score:
    return metrics.score(metric, outcomes), *statistics.interval(metric, outcomes)


def _is_same(before: Score, after: Score) -> bool:
    return all(math.isclose(a, b, rel_tol=_SAME, abs_tol=_SAME) for a, b in zip(before, after, strict=True))


def _write(database: Database, evaluation: Evaluation, changes: Sequence[Rescored]) -> bool:
    """False where the evaluation was measured anew since it was read: its score is of other outcomes now."""
    found = {change.metric: change.after for change in changes if change.after is not None}
    beside = {**(evaluation.beside or {}), **{metric: list(score) for metric, score in found.items()}}
    ranked = found.get(evaluation.suite.metric, (evaluation.score, evaluation.low, evaluation.high))
    beside.pop(evaluation.suite.metric, None)
    with database.writing() as session:
        is_written = evaluations.rewrite_scores(session, evaluation, ranked, beside)
        if is_written:
            listings.add_score(session, evaluation.id)
    return is_written
