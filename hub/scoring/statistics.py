"""Intervals and paired comparisons: two adapters answer the same items, so they are compared item by item."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE_Z = 1.959963984540054  # 95%, two-sided
REPLICATES = 10_000
_SEED = 20240211


@dataclass(frozen=True)
class Paired:
    """One adapter against another on the same items. `delta` and `interval` are this less the other."""

    items: int
    score: float
    against_score: float
    delta: float
    interval: tuple[float, float]
    only_better: int
    only_worse: int
    p_value: float

    @property
    def is_significant(self) -> bool:
        return self.p_value < 0.05


def wilson_interval(outcomes: Sequence[float]) -> tuple[float, float]:
    """The 95% Wilson score interval of a proportion (Wilson 1927)."""
    n, p, z = len(outcomes), sum(outcomes) / len(outcomes), CONFIDENCE_Z
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def compare(outcomes: Sequence[float], against: Sequence[float]) -> Paired:
    """The paired comparison of two outcome lists over the same items, in the same order.

    The p-value is exact McNemar's; the interval of the difference is a paired bootstrap that
    resamples the joint cells as a multinomial. Raises ValueError when the lists differ in length.
    """
    if len(outcomes) != len(against) or not outcomes:
        raise ValueError(f"Paired items are needed: {len(outcomes)} against {len(against)}.")
    ours, theirs = np.asarray(outcomes) >= 0.5, np.asarray(against) >= 0.5
    better, worse = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    n = len(ours)
    return Paired(
        items=n,
        score=float(ours.mean()),
        against_score=float(theirs.mean()),
        delta=(better - worse) / n,
        interval=_bootstrap_difference(better, worse, n),
        only_better=better,
        only_worse=worse,
        p_value=mcnemar_exact(better, worse),
    )


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


def _bootstrap_difference(better: int, worse: int, n: int) -> tuple[float, float]:
    rng = np.random.Generator(np.random.PCG64(_SEED))
    cells = rng.multinomial(n, [better / n, worse / n, (n - better - worse) / n], size=REPLICATES)
    differences = (cells[:, 0] - cells[:, 1]) / n
    low, high = np.quantile(differences, [0.025, 0.975])
    return float(low), float(high)
