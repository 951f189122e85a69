"""The metrics of suites, held to scikit-learn's and scipy's; their intervals and comparisons, to what they claim."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef

from hub.scoring import metrics, statistics
from tests.benchmarks.bootstrap import outcomes
from vera.gating import SIGNIFICANCE

Pairs = list[tuple[float, float]]


def classes(n: int, *, kinds: int = 2, right: float = 0.8, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    truth = rng.choice(kinds, n, p=[0.7, *[0.3 / (kinds - 1)] * (kinds - 1)])
    answers = np.where(rng.random(n) < right, truth, rng.integers(kinds, size=n))
    return [(int(t), int(a)) for t, a in zip(truth, answers, strict=True)]


def values(n: int, *, noise: float = 1.0, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    truth = np.round(rng.random(n) * 5, 1)  # with ties, as STS-B has
    return [(float(t), float(a)) for t, a in zip(truth, truth + noise * rng.normal(size=n), strict=True)]


def parts(*sizes: int, seed: int = 0) -> Pairs:
    """What items earned of several tasks, each easier than the one before."""
    rng = np.random.default_rng(seed)
    of_each = [rng.random(size) < (part + 1) / (len(sizes) + 1) for part, size in enumerate(sizes)]
    return [(float(earned), part) for part, each in enumerate(of_each) for earned in each]


OFFICIAL: dict[str, tuple[Pairs, Callable[[np.ndarray, np.ndarray], float]]] = {
    "f1": (classes(300), f1_score),
    "f1_macro": (classes(300, kinds=4), lambda t, a: float(f1_score(t, a, average="macro"))),
    "matthews": (classes(300, kinds=3), matthews_corrcoef),
    "pearson": (values(300), lambda t, a: float(stats.pearsonr(t, a).statistic)),
    "spearman": (values(300), lambda t, a: float(stats.spearmanr(t, a).statistic)),
    "mean_squared_error": (values(300), lambda t, a: float(np.mean((t - a) ** 2))),
    "harness_macro": (parts(400, 20, 90), lambda e, t: float(np.mean([e[t == task].mean() for task in (0, 1, 2)]))),
    "perplexity": ([(12.5, 7), (3.25, 2)], lambda nats, tokens: math.exp(nats.sum() / tokens.sum())),
}


@pytest.mark.parametrize("metric", OFFICIAL)
def test_a_score_is_the_official_one(metric: str) -> None:
    outcomes, official = OFFICIAL[metric]
    assert metrics.score(metric, outcomes) == pytest.approx(official(*np.array(outcomes).T), rel=1e-9)


def test_a_correlation_of_wrong_answers_is_below_nothing() -> None:
    wrong = [(truth, 1 - answer) for truth, answer in classes(400)]
    against = [(value, -answer) for value, answer in values(400)]
    assert metrics.score("matthews", wrong) == pytest.approx(matthews_corrcoef(*zip(*wrong, strict=True)), abs=1e-12)
    assert metrics.score("matthews", wrong) < -0.3
    assert metrics.score("pearson", against) == pytest.approx(-metrics.score("pearson", values(400)), abs=1e-12)
    assert metrics.score("spearman", against) == pytest.approx(-metrics.score("spearman", values(400)), abs=1e-12)


@pytest.mark.parametrize("metric", ["f1_macro", "matthews", "pearson", "spearman", "perplexity", "harness_macro"])
def test_a_resample_is_scored_as_its_items_are(metric: str) -> None:
    outcomes = [*OFFICIAL[metric][0][:30]]
    table = np.array(outcomes, dtype=np.float64)
    cells = np.unique(table, axis=0)
    counts = np.random.default_rng(1).multinomial(50, np.full(len(cells), 1 / len(cells)), size=3)
    one_by_one = [metrics.score(metric, [tuple(row) for row in np.repeat(cells, drawn, axis=0)]) for drawn in counts]
    assert metrics.known(metric).values(cells, counts.astype(np.float64)) == pytest.approx(one_by_one, rel=1e-9)


def test_the_interval_of_a_mean_over_tasks_is_that_of_their_means() -> None:
    """lm-evaluation-harness's `unweighted_mean_stderr`: how many items the other tasks have makes no difference."""
    outcomes = parts(2000, 150, 300)
    table = np.array(outcomes)
    errors = [(each := table[table[:, 1] == task, 0]).std(ddof=1) / len(each) ** 0.5 for task in (0, 1, 2)]
    low, high = statistics.interval("harness_macro", outcomes)
    # 10,000 resamples tell a quantile to a hundredth or two
    assert (high - low) / 2 == pytest.approx(statistics.CONFIDENCE_Z * math.hypot(*errors) / 3, rel=0.04)


def test_a_task_of_which_nothing_was_drawn_counts_for_nothing() -> None:
    cells, drawn = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[3.0, 0.0], [2.0, 2.0]])
    assert metrics.known("harness_macro").values(cells, drawn).tolist() == [1.0, 0.5]


def test_tasks_count_alike_in_a_paired_comparison() -> None:
    ours, theirs = parts(400, 20, 90), parts(400, 20, 90)
    theirs[405:415] = [(1 - earned, task) for earned, task in theirs[405:415]]
    means = [[np.mean([e for e, t in each if t == task]) for task in (0, 1, 2)] for each in (ours, theirs)]

    paired = statistics.compare(ours, theirs, "harness_macro")

    assert paired.delta == pytest.approx(np.mean(means[0]) - np.mean(means[1]), abs=1e-12)
    assert paired.only_better + paired.only_worse == 10
    assert statistics.compare(ours, ours, "harness_macro").interval == (0, 0)


@pytest.mark.parametrize(("metric", "constant"), [("matthews", 1), ("pearson", 0.1), ("spearman", 0.1), ("f1", 0)])
def test_an_answer_that_ignores_the_item_scores_nothing(metric: str, constant: float) -> None:
    assert metrics.score(metric, [(truth, constant) for truth, _ in classes(40)]) == 0


@pytest.mark.parametrize(
    ("metric", "outcomes"),
    [
        ("accuracy", [0.5, 1.5]), ("accuracy", [(1, 1)]), ("f1", [1, 0]), ("f1", [(0.5, 1)]), ("matthews", [(-1, 0)]),
        ("pearson", [(1.0, math.nan)]), ("perplexity", [(-1.0, 3)]), ("perplexity", [(1.0, 0)]), ("f1", []),
    ],
)  # fmt: skip
def test_outcomes_of_another_form_are_refused(metric: str, outcomes: list[metrics.Outcome]) -> None:
    with pytest.raises(ValueError, match=r"outcome|class|likelihood|item"):
        metrics.score(metric, outcomes)


def test_an_interval_holds_the_score_and_is_as_wide_as_theory_says() -> None:
    outcomes = values(1500, noise=0.8)
    r = metrics.score("pearson", outcomes)
    low, high = statistics.interval("pearson", outcomes)
    assert low < r < high
    fisher = [math.tanh(math.atanh(r) + sign * 1.96 / math.sqrt(1497)) for sign in (-1, 1)]
    assert (low, high) == pytest.approx(fisher, abs=0.006)  # the truth here is uniform, which Fisher's is not for


def test_resampling_cells_is_resampling_items() -> None:
    outcomes = classes(1043)
    truth, answers = np.array(outcomes).T
    rng = np.random.default_rng(3)
    drawn = (rng.integers(len(outcomes), size=len(outcomes)) for _ in range(400))
    slow = np.quantile([matthews_corrcoef(truth[rows], answers[rows]) for rows in drawn], [0.025, 0.975])
    # a quantile of 400 is off by about a tenth of the width
    assert statistics.interval("matthews", outcomes) == pytest.approx(tuple(slow), abs=0.01)


@pytest.mark.parametrize("metric", ["matthews", "f1", "pearson", "spearman"])
def test_a_comparison_tells_a_better_one_from_an_equal_one(metric: str) -> None:
    make = classes if metric in ("matthews", "f1") else values
    good = make(800) if make is classes else values(800, noise=0.5)
    worse = [(t, a if i % 4 else 0) for i, (t, a) in enumerate(good)]

    proven, same = statistics.compare(good, worse, metric), statistics.compare(good, good, metric)

    assert proven.p_value < SIGNIFICANCE
    assert proven.interval[0] > 0
    assert proven.only_better > proven.only_worse
    assert (same.delta, same.p_value, same.interval) == (0, 1.0, (0, 0))


def test_less_perplexity_is_a_negative_difference_of_items_answered_better() -> None:
    rng = np.random.default_rng(0)
    ours = [(float(nats), 5) for nats in rng.gamma(9, 1, 200)]
    paired = statistics.compare(ours, [(nats + 1, 5) for nats, _ in ours], "perplexity")
    assert paired.delta < 0
    assert paired.interval[1] < 0
    assert (paired.only_better, paired.only_worse) == (200, 0)
    assert paired.p_value < SIGNIFICANCE


def test_the_same_outcomes_twice_give_the_same_interval() -> None:
    assert statistics.interval("spearman", values(50)) == statistics.interval("spearman", values(50))


def test_ten_thousand_paired_resamples_of_labels_are_quick() -> None:
    ours, theirs = classes(1043), classes(1043, seed=1)
    began = time.perf_counter()
    statistics.compare([(t, a) for (t, _), (_, a) in zip(ours, ours, strict=True)], theirs, "matthews")
    assert time.perf_counter() - began < 1  # 20 ms on a free core


@pytest.mark.parametrize(
    "metric", [each for each in metrics.METRICS.values() if each.sums is not None], ids=lambda m: m.name
)
def test_the_shorter_way_gives_the_score(metric: metrics.Metric) -> None:
    table = metric.table(outcomes(metric, 300, seed=1))
    assert metric.sums is not None
    summed = metric.sums.of_sums(metric.sums.terms(table).sum(0, keepdims=True))
    assert summed[0] == pytest.approx(metric.score(table.squeeze().tolist()), rel=1e-9)
