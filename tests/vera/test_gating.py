from __future__ import annotations

from dataclasses import replace

import pytest

from sdk.models.evaluations import Comparison, Evaluation
from tests.sdk.fakes import evaluation_json
from vera.gating import Finding, Minimum, Verdict, judge_minimum, judge_regression, overall

PASS, INCONCLUSIVE, FAIL = Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL


def comparison(delta: float, low: float, high: float, p_value: float) -> Comparison:
    return Comparison("accuracy", 400, 0.8 + delta, 0.8, delta, (low, high), p_value, 10, 20, "exact McNemar")


@pytest.mark.parametrize(
    ("delta", "low", "high", "p_value", "margin", "verdict"),
    [
        # identical answers: nothing is worse, and nothing can be
        (0.00, 0.00, 0.00, 1.00, 0.00, PASS),
        # better beyond doubt
        (0.05, 0.02, 0.08, 0.00, 0.00, PASS),
        # better or not, the items cannot tell
        (0.01, -0.02, 0.04, 0.50, 0.00, INCONCLUSIVE),
        (-0.01, -0.04, 0.02, 0.50, 0.00, INCONCLUSIVE),
        # worse beyond doubt, by the interval or by the test alone
        (-0.05, -0.08, -0.02, 0.00, 0.00, FAIL),
        (-0.03, -0.06, 0.00, 0.049, 0.00, FAIL),
        (-0.03, -0.06, 0.00, 0.051, 0.00, INCONCLUSIVE),
        # a significant gain is no loss
        (0.03, 0.00, 0.06, 0.04, 0.00, PASS),
        # with a margin a proven small loss is allowed …
        (-0.02, -0.03, -0.01, 0.00, 0.05, PASS),
        # … until it may be larger than the margin …
        (-0.03, -0.06, -0.01, 0.00, 0.05, INCONCLUSIVE),
        # … or certainly is
        (-0.10, -0.14, -0.06, 0.00, 0.05, FAIL),
        # the bounds themselves are allowed
        (-0.05, -0.05, -0.05, 0.00, 0.05, PASS),
    ],
)
def test_a_regression_is_judged_by_the_paired_interval(
    delta: float, low: float, high: float, p_value: float, margin: float, verdict: Verdict
) -> None:
    finding = judge_regression(comparison(delta, low, high, p_value), margin, against="demo/a@v1")

    assert finding.verdict is verdict


def test_the_sentence_shows_both_scores_the_difference_its_interval_and_p() -> None:
    finding = judge_regression(comparison(-0.05, -0.08, -0.02, 0.001), 0.01, against="demo/a@v1")

    assert finding.gate == "no regression vs demo/a@v1 (margin 0.01)"
    for number in ("0.7500", "0.8000", "-0.0500", "[-0.0800, -0.0200]", "p = 0.001"):
        assert number in finding.sentence


@pytest.mark.parametrize(
    ("text", "verdict"), [("accuracy>=0.8", PASS), ("accuracy >= .81", FAIL), ("accuracy>=0", PASS)]
)
def test_a_floor_is_judged_by_the_score(text: str, verdict: Verdict) -> None:
    evaluation = Evaluation.from_json(evaluation_json(score=0.8))

    assert judge_minimum(evaluation, Minimum.parse(text)).verdict is verdict


@pytest.mark.parametrize(
    "text", ["", "0.8", "accuracy", "accuracy>0.8", "accuracy=0.8", "accuracy>=", "accuracy>=much", "accuracy>=1e"]
)
def test_a_floor_that_is_none_says_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match=r"accuracy>=0\.8"):
        Minimum.parse(text)


def test_a_floor_for_another_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="measures accuracy, not f1"):
        judge_minimum(Evaluation.from_json(evaluation_json()), Minimum.parse("f1>=0.5"))


@pytest.mark.parametrize(
    ("verdicts", "worst"),
    [([], PASS), ([PASS, PASS], PASS), ([PASS, INCONCLUSIVE], INCONCLUSIVE), ([INCONCLUSIVE, FAIL, PASS], FAIL)],
)
def test_the_worst_finding_decides(verdicts: list[Verdict], worst: Verdict) -> None:
    assert overall([Finding("gate", verdict, "") for verdict in verdicts]) is worst


@pytest.mark.parametrize(("score", "verdict"), [(11.9, PASS), (12.0, PASS), (12.1, FAIL)])
def test_where_less_is_better_the_gate_is_a_ceiling(score: float, verdict: Verdict) -> None:
    evaluation = Evaluation.from_json({**evaluation_json(score=score), "metric": "perplexity"})
    assert judge_minimum(evaluation, Minimum.parse("perplexity<=12")).verdict is verdict


@pytest.mark.parametrize(("text", "right"), [("perplexity>=12", "perplexity<=12"), ("accuracy<=0.8", "accuracy>=0.8")])
def test_a_gate_that_is_the_wrong_way_round_is_refused(text: str, right: str) -> None:
    with pytest.raises(ValueError, match=f"the gate is '{right}'"):
        Minimum.parse(text)


def test_more_perplexity_is_a_regression_and_less_is_none() -> None:
    more = replace(comparison(2.0, 1.5, 2.5, 1e-9), metric="perplexity")
    less = replace(comparison(-2.0, -2.5, -1.5, 1e-9), metric="perplexity")
    assert judge_regression(more, 0.0, against="demo/a@v1").verdict is FAIL
    assert judge_regression(less, 0.0, against="demo/a@v1").verdict is PASS
    assert "items this one answers better" in judge_regression(less, 0.0, against="demo/a@v1").sentence


@pytest.mark.parametrize("margin", [float("nan"), float("inf"), -0.1, 5.0])
def test_a_margin_that_no_score_can_lose_never_opens_the_gate(margin: float) -> None:
    with pytest.raises(ValueError, match="a difference of accuracy, from 0 to 1"):
        judge_regression(comparison(-0.85, -0.9, -0.8, 1e-30), margin, against="demo/a@v1")


@pytest.mark.parametrize(
    ("metric", "margin", "verdict"),
    [("perplexity", 3.0, PASS), ("perplexity", 2.0, INCONCLUSIVE), ("perplexity", 1.0, FAIL)],
)
def test_a_margin_is_in_the_units_of_its_metric(metric: str, margin: float, verdict: Verdict) -> None:
    more = replace(comparison(2.0, 1.5, 2.5, 1e-9), metric=metric)
    assert judge_regression(more, margin, against="demo/a@v1").verdict is verdict


@pytest.mark.parametrize(("metric", "margin"), [("pearson", 2.1), ("perplexity", float("inf")), ("perplexity", -1.0)])
def test_every_metric_has_its_widest_margin(metric: str, margin: float) -> None:
    with pytest.raises(ValueError, match=f"a difference of {metric}"):
        judge_regression(replace(comparison(0, 0, 0, 1), metric=metric), margin, against="demo/a@v1")
