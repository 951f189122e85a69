"""When an evaluation passes a gate. Pure rules over scores and comparisons: the client asks them, and the hub once more
before a gate moves an alias."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from vera.metrics import ADVISORY, BY_DEGREES, LOWER_IS_BETTER, SPANS

SIGNIFICANCE = 0.05


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  # a verdict, no password
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"


class Scored(Protocol):
    """An evaluation, as the client and the hub both have it."""

    @property
    def ref(self) -> str: ...
    @property
    def suite(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def score(self) -> float | None: ...


class Paired(Protocol):
    """A comparison of two evaluations, item by item."""

    @property
    def metric(self) -> str: ...
    @property
    def score(self) -> float: ...
    @property
    def against_score(self) -> float: ...
    @property
    def delta(self) -> float: ...
    @property
    def interval(self) -> tuple[float, float]: ...
    @property
    def p_value(self) -> float: ...
    @property
    def only_better(self) -> int: ...
    @property
    def only_worse(self) -> int: ...


@dataclass(frozen=True)
class Finding:
    """What one gate found, in a word and in a sentence with its numbers."""

    gate: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True)
class Minimum:
    """A floor under the score, `accuracy>=0.8`; a ceiling where less is better, `perplexity<=12`."""

    metric: str
    value: float

    @property
    def sign(self) -> str:
        return "<=" if self.metric in LOWER_IS_BETTER else ">="

    @classmethod
    def parse(cls, text: str) -> Minimum:
        """Raises ValueError with a sentence."""
        parts = re.fullmatch(r"\s*([a-z][a-z0-9_-]*)\s*([<>]=)\s*(-?[0-9]*\.?[0-9]+)\s*", text)
        if parts is None:
            raise ValueError(
                f"{text!r} is not a floor: write it as metric>=number in quotes, because the shell takes > for itself: 'accuracy>=0.8'"
            )
        minimum = cls(parts[1], float(parts[3]))
        if parts[2] != minimum.sign:
            better = "less" if minimum.sign == "<=" else "more"
            raise ValueError(f"of {minimum.metric} {better} is better, so the gate is '{minimum}'")
        return minimum

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.value!r}".removesuffix(".0")


def judge_minimum(evaluation: Scored, minimum: Minimum) -> Finding:
    """Passes when the score itself reaches the floor. Raises ValueError when the suite has another metric."""
    require_decisive(evaluation.metric)
    if evaluation.metric != minimum.metric:
        raise ValueError(f"{evaluation.suite} measures {evaluation.metric}, not {minimum.metric}")
    score = evaluation.score
    if score is None:
        raise ValueError(f"{evaluation.ref} has no score on {evaluation.suite} yet")
    is_ceiling = minimum.sign == "<="
    reaches = score <= minimum.value if is_ceiling else score >= minimum.value
    return Finding(
        f"min {minimum}",
        Verdict.PASS if reaches else Verdict.FAIL,
        f"{minimum.metric} is {score:.4f}, {'not ' if not reaches else ''}at {'most' if is_ceiling else 'least'} {minimum.value:g}.",
    )


def judge_regression(comparison: Paired, margin: float, *, against: str) -> Finding:
    """Whether this one is worse than `against` by more than `margin`, as far as the items can tell.

    Fails on a proven regression: the paired interval of the difference lies wholly below -margin or,
    with no margin, the loss is significant. Inconclusive when the interval reaches below -margin.
    Raises ValueError for a margin that says nothing of the metric.
    """
    require_decisive(comparison.metric)
    check_margin(comparison.metric, margin)
    gain, (low, high) = comparison.delta, comparison.interval
    if comparison.metric in LOWER_IS_BETTER:
        gain, low, high = -gain, -high, -low
    is_significant_loss = gain < 0 and comparison.p_value < SIGNIFICANCE
    if high < -margin or (margin == 0 and is_significant_loss):
        verdict, meaning = Verdict.FAIL, "A proven regression"
    elif low < -margin:
        verdict, meaning = Verdict.INCONCLUSIVE, "Too few items to exclude a regression"
    else:
        verdict, meaning = Verdict.PASS, "Not worse"
    return Finding(
        f"no regression vs {against}" + (f" (margin {margin:g})" if margin else ""),
        verdict,
        f"{meaning}: {comparison.metric} {comparison.score:.4f} against {comparison.against_score:.4f}, "
        f"difference {comparison.delta:+.4f}, 95% interval {_signed(comparison.interval)}, p = {comparison.p_value:.3g} "
        f"({comparison.only_better} items {_better(comparison.metric)}, {comparison.only_worse} {'' if comparison.metric in BY_DEGREES else 'only '}the other).",
    )


def require_decisive(metric: str) -> None:
    """Raises ValueError for a metric that is advisory."""
    if metric in ADVISORY:
        raise ValueError(
            f"{metric} is advisory: a judge rates the same answers otherwise the next time, so no gate stands on it"
        )


def check_margin(metric: str, margin: float) -> None:
    """Raises ValueError for a margin that no score of `metric` can lose: such a gate is always open."""
    span = SPANS.get(metric)
    if not (0 <= margin < math.inf) or (span is not None and margin > span):
        most = f"from 0 to {span:g}" if span is not None else "0 or more"
        raise ValueError(f"the margin is a difference of {metric}, {most}, and not {margin:g}")


def _signed(interval: tuple[float, float]) -> str:
    return f"[{interval[0]:+.4f}, {interval[1]:+.4f}]"


def _better(metric: str) -> str:
    """What it means that one of two answered an item better."""
    return "this one answers better" if metric in BY_DEGREES else "only this one has right"


def overall(findings: Iterable[Finding]) -> Verdict:
    """The worst of them; PASS when there are none."""
    verdicts = {finding.verdict for finding in findings}
    for verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE):
        if verdict in verdicts:
            return verdict
    return Verdict.PASS
