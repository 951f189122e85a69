"""When an evaluation passes a gate. Pure rules over what the hub computed; the statistics are the hub's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from sdk.models import Comparison, Evaluation
from vera.metrics import BY_DEGREES, LOWER_IS_BETTER

SIGNIFICANCE = 0.05


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  # a verdict, no password
    INCONCLUSIVE = "inconclusive"
    FAIL = "fail"


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
        return f"{self.metric}{self.sign}{self.value:g}"


def judge_minimum(evaluation: Evaluation, minimum: Minimum) -> Finding:
    """Passes when the score itself reaches the floor. Raises ValueError when the suite has another metric."""
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


def judge_regression(comparison: Comparison, margin: float, *, against: str) -> Finding:
    """Whether this one is worse than `against` by more than `margin`, as far as the items can tell.

    Fails on a proven regression: the paired interval of the difference lies wholly below -margin or,
    with no margin, the loss is significant. Inconclusive when the interval reaches below -margin.
    Raises ValueError for a margin that is no share.
    """
    if not 0 <= margin <= 1:
        raise ValueError(f"the margin is a share of the score, from 0 to 1, and not {margin:g}")
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
