"""Metrics have the values of scikit-learn 1.9 and SciPy 1.17."""

from __future__ import annotations

import math

import pytest

from vera import metrics


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert metrics.accuracy([0, 1, 2, 3], [0, 2, 1, 3]) == 0.5


def test_f1_is_of_one_class_and_macro_is_the_mean_over_all() -> None:
    truth, answers = [0, 1, 2, 0, 1, 2], [0, 2, 1, 0, 0, 1]
    assert [metrics.f1(truth, answers, positive=c) for c in (0, 1, 2)] == [pytest.approx(0.8), 0.0, 0.0]
    assert metrics.f1_macro(truth, answers) == pytest.approx(0.26666666666666666)


def test_f1_of_a_class_that_is_nowhere_is_0() -> None:
    assert metrics.f1([0, 0], [0, 0], positive=1) == 0.0


@pytest.mark.parametrize(
    ("truth", "answers", "expected"),
    [
        ([1, 1, 1, -1], [1, -1, 1, 1], -1 / 3),
        ([0, 1, 2, 2, 0, 1], [0, 2, 2, 2, 0, 1], 0.7833494518006403),
        ([0, 1, 1], [0, 1, 1], 1.0),
        ([0, 1, 1], [1, 1, 1], 0.0),  # a constant answer says nothing
    ],
)
def test_matthews_is_of_any_number_of_classes(truth: list[int], answers: list[int], expected: float) -> None:
    assert metrics.matthews(truth, answers) == pytest.approx(expected)


def test_pearson_is_linear_and_spearman_of_ranks_with_ties_shared() -> None:
    assert metrics.pearson([1, 2, 3, 4, 5, 6, 7], [10, 9, 2.5, 6, 4, 3, 2]) == pytest.approx(-0.8285038835884277)
    assert metrics.spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826816681233)
    assert metrics.spearman([1, 2, 3], [1, 10, 1e6]) == pytest.approx(1.0)


def test_the_correlation_with_a_constant_is_0() -> None:
    assert metrics.pearson([1, 2, 3], [4, 4, 4]) == 0.0
    assert metrics.spearman([4, 4, 4], [1, 2, 3]) == 0.0
    assert metrics.pearson([0.1] * 3, [0.1] * 3) == 0.0  # whose mean is not 0.1 to the last bit


def test_mean_squared_error_and_perplexity() -> None:
    assert metrics.mean_squared_error([3, -0.5, 2, 7], [2.5, 0.0, 2, 8]) == 0.375
    assert metrics.perplexity(math.log(7)) == pytest.approx(7)
    assert math.isfinite(metrics.perplexity(1e4))
