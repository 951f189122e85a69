"""Leaderboards: best first, and honest about what cannot be told apart."""

from __future__ import annotations

import csv
import hashlib
import io
from bisect import bisect_left
from collections import OrderedDict
from threading import Lock

from sqlalchemy.orm import Session

from hub.auth.policy import Principal, viewer_of
from hub.db.models.evaluating import Evaluation
from hub.db.queries import evaluations
from hub.db.queries.evaluations import Narrowed, Scored
from hub.domain.evaluations import find_suite, unpack
from hub.domain.shaping import noise_of, ref_of, scores_beside, suite_view
from hub.domain.views.bases import BaseName
from hub.domain.views.evaluations import BoardHistory, Leaderboard, LeaderboardRow, Record
from hub.scoring import metrics
from hub.scoring.statistics import is_different
from vera.metrics import ADVISORY

ANY = Narrowed()
_MOST_TIES = 100_000  # of some 150 bytes each
# How a spreadsheet is told that what follows is a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def leaderboard(
    session: Session,
    reader: Principal | None,
    suite_name: str,
    narrowed: Narrowed = ANY,
    *,
    limit: int | None = None,
) -> Leaderboard:
    """Every version that `reader` may see and the suite, as it is now, has scored, as far as it is wanted, or the best so
    many of them. Ranks and ties are among those that are wanted.

    Where the metric is advisory nothing is ranked: all rows have the first rank, in the order of their names. Raises NotFound.
    """
    suite = find_suite(session, suite_name)
    if suite.metric in ADVISORY:
        scored = evaluations.board(session, viewer_of(reader), suite.id, narrowed)
        rows = sorted((_row(each, rank=1, best=each) for each in scored), key=lambda row: row.ref)
        return Leaderboard(suite_view(suite), tuple(rows[:limit]))
    sign = 1 if metrics.known(suite.metric).is_lower_better else -1
    scored = evaluations.board(session, viewer_of(reader), suite.id, narrowed, lowest_first=sign > 0, limit=limit)
    distance = [sign * (each.evaluation.score or 0.0) for each in scored]  # best first: it only grows
    ranked = (
        _row(each, rank=bisect_left(distance, own) + 1, best=scored[0])
        for each, own in zip(scored, distance, strict=True)
    )
    return Leaderboard(suite_view(suite), tuple(ranked))


def history(session: Session, reader: Principal | None, suite_name: str, narrowed: Narrowed = ANY) -> BoardHistory:
    """The versions that were the best of the board when they were scored, by the suite as it is now. Those that were taken back
    since, or that `reader` may not see, are not among them. Raises NotFound."""
    suite = find_suite(session, suite_name)
    if suite.metric in ADVISORY:
        return BoardHistory(suite_view(suite), ())
    is_lower = metrics.known(suite.metric).is_lower_better
    ids = evaluations.record_ids(session, viewer_of(reader), suite.id, narrowed, lowest_first=is_lower)
    found = evaluations.by_ids(session, ids)
    return BoardHistory(suite_view(suite), tuple(_record(found[each]) for each in ids))


def _record(evaluation: Evaluation) -> Record:
    version = evaluation.version
    assert evaluation.score is not None
    assert evaluation.low is not None
    assert evaluation.high is not None
    assert evaluation.finished_at is not None
    return Record(
        ref=ref_of(version),
        digest=version.digest,
        base=BaseName(version.base.name, version.base.fingerprint),
        score=evaluation.score,
        interval=(evaluation.low, evaluation.high),
        evaluation_id=str(evaluation.id),
        created_by=version.created_by.name,
        since=evaluation.finished_at,
    )


def as_csv(board: Leaderboard) -> str:
    """The rows with a line of headings. A name that a spreadsheet would take for a formula gets an apostrophe."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    beside = sorted({name for row in board.rows for name in row.beside})
    named = ("rank", "tied_with_best", "ref", "digest", "base", "base_fingerprint", board.suite.metric, "low", "high")
    numeric = ("noise", "adapter_rank", "parameters", "vector_bytes", "head_bytes", "lora_bytes", "seconds")
    writer.writerow([*named, *numeric, "created_by", "evaluation_id", "finished_at", *beside])
    for row in board.rows:
        found = (row.rank, row.tied_with_best, row.ref, row.digest, row.base.name, row.base.fingerprint, row.score)
        numbers = (getattr(row, name) for name in numeric)
        others = (each.score if each else None for each in (row.beside.get(name) for name in beside))
        ends = (row.created_by, row.evaluation_id, row.finished_at.isoformat(), *others)
        writer.writerow([_plain(each) for each in (*found, *row.interval, *numbers, *ends)])
    return lines.getvalue()


def _plain(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _row(scored: Scored, *, rank: int, best: Scored) -> LeaderboardRow:
    evaluation, version = scored.evaluation, scored.evaluation.version
    assert evaluation.score is not None
    assert evaluation.low is not None
    assert evaluation.high is not None
    assert evaluation.finished_at is not None
    return LeaderboardRow(
        rank=rank,
        tied_with_best=_TIES.is_tied(scored.outcomes, best.outcomes, evaluation.suite.metric),
        ref=ref_of(version),
        digest=version.digest,
        base=BaseName(version.base.name, version.base.fingerprint),
        score=evaluation.score,
        interval=(evaluation.low, evaluation.high),
        adapter_rank=version.rank,
        parameters=version.parameters,
        vector_bytes=version.vector_bytes,
        head_bytes=version.head_bytes,
        lora_bytes=version.lora_bytes,
        created_by=version.created_by.name,
        evaluation_id=str(evaluation.id),
        finished_at=evaluation.finished_at,
        seconds=evaluation.seconds,
        beside=scores_beside(evaluation),
        noise=noise_of(evaluation),
    )


class _Ties:
    """Which outcome lists were told apart, by their digests: a test takes half a millisecond, and a board has one for
    each row whenever it is shown."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, bool] = OrderedDict()
        self._lock = Lock()

    def is_tied(self, outcomes: bytes, best: bytes, metric: str) -> bool:
        """True when the paired test cannot tell the two packed outcome lists apart."""
        key = hashlib.sha256(
            b"\0".join((metric.encode(), *(hashlib.sha256(each).digest() for each in (outcomes, best))))
        )
        with self._lock:
            found = self._known.get(key.digest())
        if found is None:
            found = not is_different(unpack(outcomes), unpack(best), metric)
            self._keep(key.digest(), is_tied=found)
        return found

    def _keep(self, key: bytes, *, is_tied: bool) -> None:
        with self._lock:
            self._known[key] = is_tied
            while len(self._known) > _MOST_TIES:
                self._known.popitem(last=False)


_TIES = _Ties()
