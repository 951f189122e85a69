"""What a suite's number is: a pure function of one outcome per item.

A metric is given as a function of the distinct outcomes there are and of how often each of them came, for many
resamples at once: the score is its value for the counts as they are, and its interval comes from counts drawn anew.

form         an outcome                                     metrics
CREDIT       what the item earned, in 0..1                  accuracy, accuracy_norm, exact_match, ifeval(_loose)
CLASSES      (right class, answered class)                  f1 (1 is the positive class), f1_macro, matthews
VALUES       (right value, answered value)                  pearson, spearman, mean_squared_error
LIKELIHOOD   (negative log-likelihood in nats, its tokens)  perplexity
GAIN         what the item earned, from 0                   rouge_l, cider, judged, harness_mean
PARTS        what it earned, and which part it is of        harness_macro: the mean over the parts of their means
COUNTS       counts that are summed over the items          bleu, nist, meteor: see `hub.scoring.overlaps`;
                                                            ifeval_instructions(_loose): those followed, and all
"""

# R resamples, C distinct outcomes, K classes

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from hub.scoring import overlaps
from vera.metrics import LOWER_IS_BETTER

Outcome = float | Sequence[float]
Array = NDArray[np.float64]
_LARGEST_EXPONENT = 700.0  # as in vera.metrics.perplexity: JSON has no infinity


class Form(Enum):
    """What an outcome says."""

    CREDIT = "credit"
    CLASSES = "classes"
    VALUES = "values"
    LIKELIHOOD = "likelihood"
    GAIN = "gain"
    PARTS = "parts"
    COUNTS = "counts"


@dataclass(frozen=True)
class Sums:
    """What a score needs of many items: `of_sums (R, K)` gives (R,) from the summed `terms (items, K)`, whose order of
    magnitude is such that single precision holds their sums."""

    terms: Callable[[Array], Array]
    of_sums: Callable[[Array], Array]


@dataclass(frozen=True)
class Metric:
    """`values(outcomes (C, columns), counts (R, C))` gives (R,); `of_sums`, where the form is COUNTS, is the same of summed
    outcomes (R, columns). `sums` are a shorter way to nearly the same, for very many resamples."""

    name: str
    form: Form
    values: Callable[[Array, Array], Array]
    columns: int = 2
    of_sums: Callable[[Array], Array] | None = None
    sums: Sums | None = None

    @property
    def is_lower_better(self) -> bool:
        return self.name in LOWER_IS_BETTER

    def score(self, outcomes: Sequence[Outcome]) -> float:
        """Raises ValueError for no items, or outcomes of another form."""
        table = self.table(outcomes)
        rows, counts = np.unique(table, axis=0, return_counts=True)
        return float(self.values(rows, counts[None].astype(np.float64))[0])

    def table(self, outcomes: Sequence[Outcome]) -> Array:
        """The outcomes as (items, columns), checked to be of this metric's form. Raises ValueError."""
        if not len(outcomes):
            raise ValueError("A score needs at least one item.")
        if any((len(each) if isinstance(each, list | tuple) else 1) != self.columns for each in outcomes):
            raise ValueError(f"An outcome of {self.name} has {self.columns} numbers, and another one has not.")
        table = np.asarray(outcomes, dtype=np.float64).reshape(len(outcomes), self.columns)
        wrong = _WRONG[self.form](table)
        if wrong or not np.isfinite(table).all():
            raise ValueError(wrong or "An outcome is no finite number.")
        return table

    def losses(self, table: Array) -> Array:
        """How wrong each item is (items,): of two adapters, the one with less answered it better."""
        if self.form is Form.CREDIT:
            return np.asarray(table[:, 0] < 0.5, dtype=np.float64)
        if self.form is Form.CLASSES:
            return np.asarray(table[:, 0] != table[:, 1], dtype=np.float64)
        if self.form is Form.VALUES:
            distance: Array = np.abs(table[:, 0] - table[:, 1])
            return distance
        if self.form in (Form.GAIN, Form.PARTS):
            return -table[:, 0]
        if self.of_sums is not None:
            return -self.of_sums(table)
        per_token: Array = table[:, 0] / table[:, 1]
        return per_token


def score(metric: str, outcomes: Sequence[Outcome]) -> float:
    """The score of `outcomes`. Raises ValueError for an unknown metric, no items, or outcomes of another form."""
    return known(metric).score(outcomes)


def known(metric: str) -> Metric:
    """Raises ValueError for an unknown metric."""
    if metric not in METRICS:
        raise ValueError(f"The metric {metric!r} is not known here (known: {', '.join(METRICS)}).")
    return METRICS[metric]


def _mean(outcomes: Array, counts_RC: Array) -> Array:
    mean: Array = counts_RC @ outcomes[:, 0] / counts_RC.sum(1)
    return mean


def _macro(outcomes: Array, counts_RC: Array) -> Array:
    """The mean of the means of all parts of which there are items: a part counts as much as any other."""
    is_of_CK = (outcomes[:, [1]] == np.unique(outcomes[:, 1])).astype(np.float64)
    items_RK = counts_RC @ is_of_CK
    means_RK = _ratio(counts_RC @ (outcomes[:, [0]] * is_of_CK), items_RK)
    return _ratio(means_RK.sum(1), (items_RK > 0).sum(1).astype(np.float64))


def _summed(
    name: str, columns: int, of_sums: Callable[[Array], Array], *, of_many: Callable[[Array], Array] | None = None
) -> Metric:
    sums = Sums(lambda outcomes: outcomes, of_many or of_sums)
    return Metric(name, Form.COUNTS, lambda outcomes, counts_RC: of_sums(counts_RC @ outcomes), columns, of_sums, sums)


def _f1(outcomes: Array, counts_RC: Array) -> Array:
    is_positive, said_positive = outcomes[:, 0] == 1, outcomes[:, 1] == 1
    both = counts_RC @ (is_positive & said_positive)
    return _ratio(2 * both, counts_RC @ is_positive + counts_RC @ said_positive)


def _f1_macro(outcomes: Array, counts_RC: Array) -> Array:
    """The mean of the F1 of every class that is there or is answered."""
    truth_CK, answers_CK = _one_hot(outcomes)
    both_RK = counts_RC @ (truth_CK * answers_CK)
    either_RK = counts_RC @ truth_CK + counts_RC @ answers_CK
    return _ratio(_ratio(2 * both_RK, either_RK).sum(1), (either_RK > 0).sum(1).astype(np.float64))


def _matthews(outcomes: Array, counts_RC: Array) -> Array:
    """Gorodkin's correlation of the two one-hot tables, 0 where one of them is constant."""
    truth_CK, answers_CK = _one_hot(outcomes)
    n, right = counts_RC.sum(1), counts_RC @ (outcomes[:, 0] == outcomes[:, 1])
    truth_RK, answers_RK = counts_RC @ truth_CK, counts_RC @ answers_CK
    covariance = right * n - (truth_RK * answers_RK).sum(1)
    return _correlation(covariance, n * n - (truth_RK**2).sum(1), n * n - (answers_RK**2).sum(1))


def _pearson(outcomes: Array, counts_RC: Array) -> Array:
    x, y = (outcomes - outcomes[0]).T  # near 0, where squares lose no differences; constants are exactly 0
    return _weighted_pearson(x, y, counts_RC)


def _spearman(outcomes: Array, counts_RC: Array) -> Array:
    """Pearson's of the ranks that the values have among those that were drawn."""
    x, y = (_ranks(column, counts_RC) for column in outcomes.T)
    return _weighted_pearson(x, y, counts_RC)


def _mean_squared_error(outcomes: Array, counts_RC: Array) -> Array:
    mean: Array = counts_RC @ (outcomes[:, 0] - outcomes[:, 1]) ** 2 / counts_RC.sum(1)
    return mean


def _perplexity(outcomes: Array, counts_RC: Array) -> Array:
    loss = counts_RC @ outcomes[:, 0] / (counts_RC @ outcomes[:, 1])
    return np.asarray(np.exp(np.minimum(loss, _LARGEST_EXPONENT)), dtype=np.float64)


def _share(sums: Array) -> Array:
    """Of what was counted, how much counts."""
    return _ratio(sums[:, 0], sums[:, 1])


def _moments(outcomes: Array) -> Array:
    """Of both columns, near 0 and at most 1: the correlation is the same, and squares lose no differences."""
    centred = outcomes - outcomes[0]
    largest = np.abs(centred).max(0)
    x, y = (centred / np.where(largest > 0, largest, 1.0)).T
    return np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1)


def _pearson_of_moments(sums: Array) -> Array:
    n, x, y, xx, yy, xy = sums.T
    return _correlation(xy - x * y / n, xx - x * x / n, yy - y * y / n)


def _counted(each: Array) -> Array:
    return np.stack([np.ones_like(each), each], axis=1)


def _of_classes(outcomes: Array) -> Array:
    truth, answers = _one_hot(outcomes)
    return np.hstack([truth, answers, truth * answers])


def _f1_macro_of_sums(sums: Array) -> Array:
    truth, answers, both = np.split(sums, 3, axis=1)
    either = truth + answers
    return _ratio(_ratio(2 * both, either).sum(1), (either > 0).sum(1).astype(np.float64))


def _of_parts(outcomes: Array) -> Array:
    is_of = (outcomes[:, [1]] == np.unique(outcomes[:, 1])).astype(np.float64)
    return np.hstack([is_of, outcomes[:, [0]] * is_of])


def _macro_of_sums(sums: Array) -> Array:
    items, earned = np.split(sums, 2, axis=1)
    return _ratio(_ratio(earned, items).sum(1), (items > 0).sum(1).astype(np.float64))


def _mean_of_sums(sums: Array) -> Array:
    mean: Array = sums[:, 1] / sums[:, 0]
    return mean


_PEARSON_SUMS = Sums(_moments, _pearson_of_moments)
_ERROR_SUMS = Sums(lambda outcomes: _counted((outcomes[:, 0] - outcomes[:, 1]) ** 2), _mean_of_sums)
_GAIN_SUMS = Sums(lambda outcomes: _counted(outcomes[:, 0]), _mean_of_sums)
_LIKELIHOOD_SUMS = Sums(
    lambda outcomes: outcomes, lambda sums: np.exp(np.minimum(sums[:, 0] / sums[:, 1], _LARGEST_EXPONENT))
)

METRICS = {
    metric.name: metric
    for metric in (
        Metric("accuracy", Form.CREDIT, _mean, columns=1),
        Metric("f1", Form.CLASSES, _f1),
        Metric("f1_macro", Form.CLASSES, _f1_macro, sums=Sums(_of_classes, _f1_macro_of_sums)),
        Metric("matthews", Form.CLASSES, _matthews),
        Metric("pearson", Form.VALUES, _pearson, sums=_PEARSON_SUMS),
        Metric("spearman", Form.VALUES, _spearman),
        Metric("mean_squared_error", Form.VALUES, _mean_squared_error, sums=_ERROR_SUMS),
        Metric("perplexity", Form.LIKELIHOOD, _perplexity, sums=_LIKELIHOOD_SUMS),
        _summed("bleu", overlaps.BLEU_COLUMNS, overlaps.bleu),
        _summed("nist", overlaps.NIST_COLUMNS, overlaps.nist),
        _summed("meteor", overlaps.METEOR_COLUMNS, overlaps.meteor, of_many=overlaps.meteor_of_many),
        Metric("rouge_l", Form.GAIN, _mean, columns=1, sums=_GAIN_SUMS),
        Metric("cider", Form.GAIN, _mean, columns=1, sums=_GAIN_SUMS),
        Metric("judged", Form.GAIN, _mean, columns=1, sums=_GAIN_SUMS),
        Metric("accuracy_norm", Form.CREDIT, _mean, columns=1),
        Metric("exact_match", Form.CREDIT, _mean, columns=1),
        Metric("harness_mean", Form.GAIN, _mean, columns=1, sums=_GAIN_SUMS),
        Metric("harness_macro", Form.PARTS, _macro, sums=Sums(_of_parts, _macro_of_sums)),
        Metric("ifeval", Form.CREDIT, _mean, columns=1),
        Metric("ifeval_loose", Form.CREDIT, _mean, columns=1),
        _summed("ifeval_instructions", 2, _share),
        _summed("ifeval_instructions_loose", 2, _share),
    )
}


def _wrong_credit(table: Array) -> str | None:
    return None if ((table >= 0) & (table <= 1)).all() else "An outcome lies outside 0 to 1."


def _wrong_classes(table: Array) -> str | None:
    return None if ((table >= 0) & (table == np.floor(table))).all() else "A class or part is a whole number from 0."


def _wrong_gain(table: Array) -> str | None:
    return None if (table >= 0).all() else "An outcome lies below 0."


def _wrong_likelihood(table: Array) -> str | None:
    is_good = (table[:, 0] >= 0) & (table[:, 1] >= 1)
    return None if is_good.all() else "A likelihood is 0 nats or more over one token or more."


_WRONG: dict[Form, Callable[[Array], str | None]] = {
    Form.CREDIT: _wrong_credit,
    Form.CLASSES: _wrong_classes,
    Form.VALUES: lambda _table: None,
    Form.LIKELIHOOD: _wrong_likelihood,
    Form.GAIN: _wrong_gain,
    Form.PARTS: lambda table: _wrong_gain(table[:, :1]) or _wrong_classes(table[:, 1:]),
    Form.COUNTS: _wrong_gain,
}


def _one_hot(outcomes: Array) -> tuple[Array, Array]:
    classes = np.unique(outcomes)
    truth, answers = ((outcomes[:, [column]] == classes).astype(np.float64) for column in (0, 1))
    return truth, answers


def _ranks(values: Array, counts_RC: Array) -> Array:
    """The mean rank of each value (R, C) among the values as often as they were drawn."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    drawn = np.add.reduceat(counts_RC[:, order], starts, axis=1)
    ranks: Array = (np.cumsum(drawn, axis=1) - (drawn - 1) / 2)[:, place]
    return ranks


def _weighted_pearson(x: Array, y: Array, counts_RC: Array) -> Array:
    """`x` and `y` are (C,) or, where they differ between resamples, (R, C)."""
    n = counts_RC.sum(1, keepdims=True)
    x_RC = x - (counts_RC * x).sum(1, keepdims=True) / n
    y_RC = y - (counts_RC * y).sum(1, keepdims=True) / n
    covariance = (counts_RC * x_RC * y_RC).sum(1)
    return _correlation(covariance, (counts_RC * x_RC**2).sum(1), (counts_RC * y_RC**2).sum(1))


def _correlation(covariance: Array, first: Array, second: Array) -> Array:
    return _ratio(covariance, np.sqrt(np.maximum(first, 0) * np.maximum(second, 0)))


def _ratio(above: Array, below: Array) -> Array:
    """0 where nothing is below, as in scikit-learn."""
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)
