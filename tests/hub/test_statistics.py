"""Intervals and paired comparisons, held to scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from hub.scoring import metrics, statistics
from hub.scoring.ranks import Spearman
from vera.gating import SIGNIFICANCE


@pytest.mark.parametrize(
    ("better", "worse"), [(0, 0), (1, 0), (0, 5), (3, 9), (40, 21), (10, 10), (500, 440), (6000, 5900)]
)
def test_mcnemar_is_the_exact_binomial_test(better: int, worse: int) -> None:
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    # sums of a few thousand exponentials in float64
    assert statistics.mcnemar_exact(better, worse) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("right", "items"), [(0, 10), (10, 10), (268, 309), (1, 3)])
def test_the_interval_is_wilsons(right: int, items: int) -> None:
    outcomes = [1] * right + [0] * (items - right)
    expected = stats.binomtest(right, items).proportion_ci(method="wilson")
    assert statistics.wilson_interval(outcomes) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_a_comparison_pairs_item_by_item() -> None:
    ours, theirs = [1, 1, 1, 0, 0, 1], [1, 0, 1, 1, 0, 0]
    paired = statistics.compare(ours, theirs)
    assert (paired.only_better, paired.only_worse, paired.items) == (2, 1, 6)
    assert paired.delta == pytest.approx(1 / 6)
    assert paired.interval[0] <= paired.delta <= paired.interval[1]
    assert paired.p_value >= SIGNIFICANCE


def test_the_bootstrap_interval_is_that_of_the_difference() -> None:
    ours, theirs = [1] * 300 + [0] * 100, [1] * 240 + [0] * 160
    low, high = statistics.compare(ours, theirs).interval
    spread = math.sqrt(0.15 * (1 - 0.15) / 400)  # of 60 items in 400, all one way
    assert (low, high) == pytest.approx((0.15 - 1.96 * spread, 0.15 + 1.96 * spread), abs=0.006)


def test_the_same_comparison_twice_gives_the_same_numbers() -> None:
    ours, theirs = [1, 0] * 50, [1, 1, 0, 0] * 25
    assert statistics.compare(ours, theirs) == statistics.compare(ours, theirs)


def test_an_interval_holds_what_it_is_the_interval_of() -> None:
    resampled = np.linspace(0, 1, 1001)
    assert statistics._percentiles(resampled, around=0.5) == pytest.approx((0.025, 0.975))
    assert statistics._percentiles(resampled, around=0.01) == pytest.approx((0.01, 0.975))
    assert statistics._percentiles(resampled, around=1.0) == pytest.approx((0.025, 1.0))


@pytest.mark.parametrize(("resampled", "expected"), [([0.75, 1.0], (0.5, 1.0)), ([0.0, 0.25], (0.0, 0.5))])
def test_the_interval_of_a_score_holds_the_score(
    resampled: list[float], expected: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "_resampled_scores", lambda *_: [np.repeat(resampled, 100)])
    half = [(1, 1), (1, 0), (0, 1)]
    assert metrics.score("f1", half) == 0.5
    assert statistics.interval("f1", half) == expected


@pytest.mark.parametrize(
    ("below", "zero", "above", "expected"),
    [(4, 0, 95, 0.1), (95, 0, 4, 0.1), (0, 0, 99, 0.02), (0, 3, 96, 0.08), (0, 99, 0, 1.0)],
)
def test_a_p_value_counts_both_sides_and_is_never_nothing(below: int, zero: int, above: int, expected: float) -> None:
    differences = np.repeat([-0.1, 0.0, 0.1], [below, zero, above])
    assert statistics._bootstrap_p(differences) == pytest.approx(expected)


def test_a_comparison_has_ten_thousand_resamples_and_a_board_fewer() -> None:
    right, wrong = [(1, 1), (0, 0)] * 50, [(1, 0), (0, 1)] * 50
    assert statistics.compare(right, wrong, "f1").p_value == pytest.approx(2 / 10_001)
    assert statistics.is_different(right, wrong, "f1")


@pytest.mark.parametrize(("better", "worse", "is_so"), [(9, 2, False), (10, 2, True), (2, 10, True), (10, 10, False)])
def test_what_chance_would_do_once_in_twenty_times_is_no_difference(better: int, worse: int, *, is_so: bool) -> None:
    ours, theirs = [1] * better + [0] * worse + [1] * 80, [0] * better + [1] * worse + [1] * 80
    assert (statistics.compare(ours, theirs).p_value < SIGNIFICANCE) is is_so
    assert statistics.is_different(ours, theirs, "accuracy") is is_so


def test_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="Paired items"):
        statistics.compare([1, 0], [1])


# -- Of many items that have sums ------------------------------------------------------------------


def values(seed: int, noise: float, items: int = 1000) -> list[tuple[float, float]]:
    truth = np.random.default_rng(7).normal(size=items)
    return [(t, a) for t, a in zip(truth, truth + noise * np.random.default_rng(seed).normal(size=items), strict=True)]


SUMMED = ["pearson", "spearman", "mean_squared_error", "perplexity", "f1_macro", "harness_macro"]


def outcomes_of(metric: str, seed: int, noise: float) -> list[tuple[float, float]]:
    if metric == "f1_macro":
        return [tuple(np.digitize(each, (-0.5, 0.5)).tolist()) for each in values(seed, noise)]
    if metric == "harness_macro":
        return [(float(abs(t - a) < 0.5), n % 3 % 2) for n, (t, a) in enumerate(values(seed, noise))]
    if metric != "perplexity":
        return values(seed, noise)
    return [(5 + abs(answer), 4.0) for _, answer in values(seed, noise)]


@pytest.mark.parametrize("metric", SUMMED)
def test_weighing_items_gives_the_interval_of_drawing_them(metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = outcomes_of(metric, 1, 0.5), outcomes_of(metric, 2, 0.55)
    weighed = statistics.compare(ours, theirs, metric)
    monkeypatch.setattr(statistics, "_MANY_ITEMS", 10**9)
    drawn = statistics.compare(ours, theirs, metric)

    width = drawn.interval[1] - drawn.interval[0]
    # Of a thousand resamples, the ends of the drawn interval are themselves uncertain by some 4% of its width.
    assert weighed.interval == pytest.approx(drawn.interval, abs=0.15 * width)
    assert (weighed.score, weighed.delta) == (drawn.score, drawn.delta)


@pytest.mark.parametrize(("seed", "p", "is_so"), [(19, 0.018, True), (36, 0.098, False)])
def test_a_board_tells_apart_what_a_comparison_does_unless_it_is_close(seed: int, p: float, *, is_so: bool) -> None:
    ours, theirs = (outcomes_of("mean_squared_error", *of) for of in ((0, 0.5), (seed, 0.54)))
    assert statistics.compare(ours, theirs, "mean_squared_error").p_value == pytest.approx(p, abs=0.001)
    assert statistics.is_different(ours, theirs, "mean_squared_error") is is_so


@pytest.mark.parametrize("metric", ["spearman", "mean_squared_error"])
@pytest.mark.parametrize(("items", "resamples"), [(2_000, 10_000), (200_000, 200)])
def test_ten_thousand_resamples_of_two_thousand_items_and_fewer_of_more(
    metric: str, items: int, resamples: int
) -> None:
    known = metrics.METRICS[metric]
    (found,) = statistics._resampled_scores(known, known.table(values(1, 0.5, items)))
    assert len(found) == resamples


@pytest.mark.parametrize("metric", SUMMED)
def test_the_same_answers_are_no_difference_at_all(metric: str) -> None:
    ours = outcomes_of(metric, 1, 0.5)
    assert statistics.compare(ours, ours, metric).interval == (0.0, 0.0)


@pytest.mark.parametrize("metric", ["mean_squared_error", "perplexity"])
def test_who_is_worse_at_one_item_and_nowhere_better_is_in_no_resample_better(metric: str) -> None:
    ours = outcomes_of(metric, 1, 0.5)
    theirs = [(ours[0][0] + 1.0, ours[0][1]), *ours[1:]] if metric == "perplexity" else [(0.0, 9.0), *ours[1:]]

    low, high = statistics.compare(ours, theirs, metric).interval

    assert low < 0
    assert high == 0.0


def test_what_two_adapters_share_is_summed_once_where_they_know_the_same_classes() -> None:
    one, other, wider = np.ones((3, 2), np.float32), np.array([[1, 0]] * 3, np.float32), np.ones((3, 4), np.float32)
    assert statistics._equal_columns([one, other]).tolist() == [True, False]
    assert statistics._equal_columns([one, wider]).tolist() == [False, False]
    assert statistics._equal_columns([one]).tolist() == [True, True]


@pytest.mark.parametrize("places", [6, 1, 0], ids=["no ties", "ties", "many ties"])
@pytest.mark.parametrize("most", [1, 5, 90, 9000], ids=["int16", "int16, often", "int32", "int64"])
def test_the_correlation_of_ranks_is_scipys_in_every_resample(places: int, most: int) -> None:
    tables = [np.round(values(seed, 0.5, items=300), places) for seed in (1, 2)]
    drawn = np.random.default_rng(3).integers(0, most + 1, size=(300, 40))

    found = Spearman(tables).of(drawn)

    for table, correlations in zip(tables, found, strict=True):
        assert correlations == pytest.approx(
            metrics.METRICS["spearman"].values(table, drawn.T.astype(float)), abs=1e-12
        )
        if most < 10:
            there = np.repeat(table, drawn[:, 7], axis=0)
            assert correlations[7] == pytest.approx(stats.spearmanr(there).statistic, abs=1e-12)


def test_ranks_of_what_is_all_the_same_have_no_correlation() -> None:
    (constant,) = Spearman([np.stack([np.ones(5), np.arange(5.0)], axis=1)]).of(np.ones((5, 1), np.int16))
    (nothing,) = Spearman([np.stack([np.arange(5.0), np.arange(5.0)], axis=1)]).of(np.zeros((5, 1), np.int16))
    assert (constant.tolist(), nothing.tolist()) == ([0.0], [0.0])


def test_the_weights_are_poisson_numbers() -> None:
    weights = statistics._POISSON
    assert len(weights) == 256
    assert (weights.mean(), weights.var()) == pytest.approx((1, 1), abs=0.005)
