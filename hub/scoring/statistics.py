"""Intervals and paired comparisons: two adapters answer the same items, so they are compared item by item."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hub.scoring import metrics
from hub.scoring.metrics import Array, Form, Metric, Outcome, Sums
from hub.scoring.ranks import Spearman
from vera.gating import SIGNIFICANCE

CONFIDENCE_Z = 1.959963984540054  # 95%, two-sided
REPLICATES = 10_000
# Fewer where there are many distinct outcomes, such as values: a million drawn numbers take a third of a second.
_MOST_DRAWN = 1_000_000
_FEWEST_REPLICATES = 200
# Items that have sums are weighed, which is cheaper; of a few, the size of a resample must not vary.
_MOST_WEIGHED = 20_000_000
_MANY_ITEMS = 200
_CHUNK = 500_000  # fits a processor's cache
_RANKED_CHUNK = 2_000_000  # of two bytes, which are gone through row by row
_BOARD_REPLICATES = 1_000  # a board is shown, with a test for each row; it tells p = 0.05 apart well enough
_SEED = 20240211
# Poisson numbers of mean 1 in 256 parts, by a random byte: mean and variance are 1.004.
_POISSON = np.repeat(np.arange(6), [94, 94, 47, 16, 4, 1])


@dataclass(frozen=True)
class Paired:
    """One adapter against another on the same items. `delta` and `interval` are this less the other; `only_better`
    counts the items that this one answered better."""

    items: int
    score: float
    against_score: float
    delta: float
    interval: tuple[float, float]
    only_better: int
    only_worse: int
    p_value: float


def wilson_interval(outcomes: Sequence[float]) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion (Wilson 1927)."""
    n, p, z = len(outcomes), sum(outcomes) / len(outcomes), CONFIDENCE_Z
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def interval(metric: str, outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """The 95% interval of the score: Wilson's for accuracy, and for what is no mean of credits a bootstrap's over
    the items, which contains the score itself. The same outcomes give the same. Raises ValueError."""
    known = metrics.known(metric)
    table = known.table(outcomes)
    if known.form is Form.CREDIT:
        return wilson_interval(table[:, 0].tolist())
    (resampled,) = _resampled_scores(known, table)
    return _percentiles(resampled, around=known.score(outcomes))


def compare(outcomes: Sequence[Outcome], against: Sequence[Outcome], metric: str = "accuracy") -> Paired:
    """The paired comparison of two outcome lists over the same items, in the same order.

    The interval of the difference is a paired bootstrap that resamples the distinct pairs of outcomes as a
    multinomial, or of many items that have sums weighs each. The p-value of accuracy is exact McNemar's; of any other metric it is the bootstrap's, twice the
    share of the differences on the other side of 0. Raises ValueError when the lists differ in length.
    """
    if len(outcomes) != len(against) or not outcomes:
        raise ValueError(f"Paired items are needed: {len(outcomes)} against {len(against)}.")
    known = metrics.known(metric)
    ours, theirs = known.table(outcomes), known.table(against)
    better, worse = (int(is_so.sum()) for is_so in _better_and_worse(known, ours, theirs))
    score, against_score = known.score(outcomes), known.score(against)
    resampled = _resampled_difference(known, ours, theirs)
    is_credit = known.form is Form.CREDIT
    return Paired(
        items=len(ours),
        score=score,
        against_score=against_score,
        delta=score - against_score,
        interval=_percentiles(resampled, around=score - against_score),
        only_better=better,
        only_worse=worse,
        p_value=mcnemar_exact(better, worse) if is_credit else _bootstrap_p(resampled),
    )


def method_of(metric: str) -> str:
    """The tests that `compare` makes."""
    return "exact McNemar; paired bootstrap" if metrics.known(metric).form is Form.CREDIT else "paired bootstrap"


def is_different(outcomes: Sequence[Outcome], against: Sequence[Outcome], metric: str) -> bool:
    """Whether the paired test of `compare` tells the two apart; of a bootstrap, a short one."""
    known = metrics.known(metric)
    ours, theirs = known.table(outcomes), known.table(against)
    if known.form is Form.CREDIT:
        better, worse = (int(is_so.sum()) for is_so in _better_and_worse(known, ours, theirs))
        return mcnemar_exact(better, worse) < SIGNIFICANCE
    return _bootstrap_p(_resampled_difference(known, ours, theirs, most=_BOARD_REPLICATES)) < SIGNIFICANCE


def mcnemar_exact(better: int, worse: int) -> float:
    """Two-sided exact McNemar p-value: the discordant pairs are a fair coin under the null.

    The binomial tail is summed in logarithms: exact integers take seconds at ten thousand pairs.
    """
    n = better + worse
    if better == worse:
        return 1.0
    log_all = math.lgamma(n + 1) - n * math.log(2)
    tail = sum(math.exp(log_all - math.lgamma(k + 1) - math.lgamma(n - k + 1)) for k in range(min(better, worse) + 1))
    return min(1.0, 2 * tail)


def _better_and_worse(metric: Metric, ours: Array, theirs: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    our_loss, their_loss = metric.losses(ours), metric.losses(theirs)
    return our_loss < their_loss, our_loss > their_loss


def _resampled_difference(metric: Metric, ours: Array, theirs: Array, *, most: int = REPLICATES) -> Array:
    first, second = _resampled_scores(metric, ours, theirs, most=most)
    return first - second


def _resampled_scores(metric: Metric, *tables: Array, most: int = REPLICATES) -> list[Array]:
    """The scores (R,) of each table (items, columns), all in the same resamples of the items."""
    if len(tables[0]) >= _MANY_ITEMS:
        if metric.sums is not None:
            return _weighed(metric.sums, tables, most=most)
        if metric.name == "spearman":
            return _ranked(tables, most=most)
    columns = tables[0].shape[1]

    def scores(rows: Array, counts: Array) -> Array:
        parts = (rows[:, at : at + columns] for at in range(0, rows.shape[1], columns))
        return np.stack([metric.values(part, counts) for part in parts], axis=1)

    return list(_resampled(scores, np.hstack(tables), most=most).T)


def _weighed(sums: Sums, tables: Sequence[Array], *, most: int) -> list[Array]:
    """The scores of each table, every item weighed by a Poisson number: a bootstrap whose size varies a little, which
    of many items nobody sees (Hanley and MacGibbon 2006), and whose draws are one random byte each.

    The tables are summed one after the other, all in the same order: items that are answered alike cancel to the bit.
    """
    terms = [sums.terms(table).astype(np.float32) for table in tables]
    is_shared = _equal_columns(terms)
    shared_KC, *own = [
        np.ascontiguousarray(each.T) for each in (terms[0][:, is_shared], *(t[:, ~is_shared] for t in terms))
    ]
    found = []
    for weights_CR in _poisson(len(tables[0]), np.float32, most=most, at_once=_CHUNK):
        sums_KR = np.empty((len(is_shared), weights_CR.shape[1]))
        sums_KR[is_shared] = shared_KC @ weights_CR
        scores = []
        for own_KC in own:
            sums_KR[~is_shared] = own_KC @ weights_CR
            scores.append(sums.of_sums(sums_KR.T))
        found.append(scores)
    return [np.concatenate(scores) for scores in zip(*found, strict=True)]


def _equal_columns(tables: Sequence[NDArray[np.float32]]) -> NDArray[np.bool_]:
    """Which columns all tables have alike, such as how often an item counts, and its right answer."""
    first, *others = tables
    if any(other.shape != first.shape for other in others):
        return np.zeros(first.shape[1], dtype=bool)
    return np.asarray(np.all([(other == first).all(0) for other in others or tables], axis=0))


def _ranked(tables: Sequence[Array], *, most: int) -> list[Array]:
    """The same of Spearman's correlation, whose ranks are those among what is drawn. The items are taken in the order of their
    right answers: what is read one after the other then lies so."""
    order = np.argsort(tables[0][:, 0], kind="stable")
    spearman = Spearman([table[order] for table in tables])
    weights = _poisson(len(order), np.int16, most=most, at_once=_RANKED_CHUNK)
    found = [spearman.of(weights_CR) for weights_CR in weights]
    return [np.concatenate(scores) for scores in zip(*found, strict=True)]


def _poisson(items: int, dtype: type[np.number], *, most: int, at_once: int) -> Iterator[NDArray[Any]]:
    """How often each item counts in each resample (items, R), `at_once` of these numbers at a time. What is given is overwritten by
    the next."""
    random_raw, numbers = np.random.PCG64(_SEED).random_raw, _POISSON.astype(dtype)
    replicates = min(most, max(_FEWEST_REPLICATES, _MOST_WEIGHED // items))
    most_R = min(replicates, max(1, at_once // items))
    room = np.empty(most_R * items, dtype)
    for done in range(0, replicates, most_R):
        weights = room[: min(most_R, replicates - done) * items]
        drawn = random_raw(-(-len(weights) // 8)).astype("<u8", copy=False).view(np.uint8)[: len(weights)]
        np.take(numbers, drawn, mode="clip", out=weights)  # unbuffered, unlike mode="raise": three times as fast
        yield weights.reshape(items, -1)


def _resampled(values: Callable[[Array, Array], Array], table: Array, *, most: int = REPLICATES) -> Array:
    """`values` of `table`'s rows drawn anew, as often as there are, again and again.

    Equal rows are one cell of a multinomial: of a thousand labelled items there are a few cells, and 10,000
    resamples of them are 10,000 short vectors.
    """
    cells, counts = np.unique(table, axis=0, return_counts=True)
    shares = counts / counts.sum()
    rng = np.random.Generator(np.random.PCG64(_SEED))
    replicates = min(most, max(_FEWEST_REPLICATES, _MOST_DRAWN // len(cells)))
    at_once = max(1, _CHUNK // len(cells))
    chunks = (min(at_once, replicates - done) for done in range(0, replicates, at_once))
    drawn = (rng.multinomial(len(table), shares, size=size).astype(np.float64) for size in chunks)
    return np.concatenate([values(cells, counts_RC) for counts_RC in drawn])


def _percentiles(resampled: Array, *, around: float) -> tuple[float, float]:
    low, high = np.quantile(resampled, [0.025, 0.975])
    return min(float(low), around), max(float(high), around)


def _bootstrap_p(differences: Array) -> float:
    """Two-sided, and never 0: so many resamples can show no less than one in so many."""
    n = len(differences)
    return min(1.0, 2 * (1 + min(int((differences <= 0).sum()), int((differences >= 0).sum()))) / (n + 1))
