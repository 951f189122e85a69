"""What predictions are worth: one small function per number, over sequences of equal length.

A number that a set does not define (the correlation with a constant, say) is 0, as in scikit-learn's
Matthews coefficient: an answer that says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labels = Sequence[int] | NDArray[np.int64]
Values = Sequence[float] | NDArray[np.float64]

# Of these, an answer is more or less right; of the others, right or wrong.
BY_DEGREES = frozenset(
    {
        "pearson", "spearman", "mean_squared_error", "perplexity", "bleu", "nist", "meteor", "rouge_l", "cider",
        "ifeval_instructions", "ifeval_instructions_loose", "judged", "harness_mean", "harness_macro",
    }
)  # fmt: skip
# Of these, a score is a share of the items: Wilson's interval and McNemar's test are of it.
SHARES = frozenset({"accuracy", "accuracy_norm", "exact_match", "ifeval", "ifeval_loose"})
# Of these, a score is somebody's opinion: it differs from run to run, and neither ranks nor gates.
ADVISORY = frozenset({"judged"})
LOWER_IS_BETTER = frozenset({"mean_squared_error", "perplexity"})
# How far the worst score is from the best; what is not here has no end.
SPANS = {
    "judged": 9.0,
    "accuracy": 1.0, "accuracy_norm": 1.0, "exact_match": 1.0, "f1": 1.0, "f1_macro": 1.0, "matthews": 2.0, "pearson": 2.0, "spearman": 2.0,
    "bleu": 1.0, "meteor": 1.0, "rouge_l": 1.0,
    "ifeval": 1.0, "ifeval_loose": 1.0, "ifeval_instructions": 1.0, "ifeval_instructions_loose": 1.0,
}  # fmt: skip


def accuracy(truth: Labels, answers: Labels) -> float:
    """The share of answers that are right."""
    return float(np.mean(np.asarray(truth) == np.asarray(answers)))


def f1(truth: Labels, answers: Labels, *, positive: int) -> float:
    """The harmonic mean of precision and recall of the class `positive`; 0 when it is neither there nor answered."""
    is_positive, said_positive = np.asarray(truth) == positive, np.asarray(answers) == positive
    either = is_positive.sum() + said_positive.sum()
    return float(2 * (is_positive & said_positive).sum() / either) if either else 0.0


def f1_macro(truth: Labels, answers: Labels) -> float:
    """The mean of the F1 of every class that is there or is answered."""
    classes = np.union1d(truth, answers)
    return float(np.mean([f1(truth, answers, positive=int(c)) for c in classes]))


def matthews(truth: Labels, answers: Labels) -> float:
    """Matthews' correlation, for any number of classes (Gorodkin 2004): the correlation of the two one-hot tables."""
    classes = np.union1d(truth, answers)
    one_hot = [(np.asarray(labels)[:, None] == classes).astype(np.float64) for labels in (truth, answers)]
    a, b = (table - table.mean(0) for table in one_hot)
    return _ratio(float((a * b).sum()), float((a * a).sum()) * float((b * b).sum()))


def pearson(truth: Values, answers: Values) -> float:
    """The linear correlation."""
    a, b = (np.asarray(values, dtype=np.float64) for values in (truth, answers))
    if not np.ptp(a) or not np.ptp(b):  # less their mean, equal values may be some last bits instead of 0
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return _ratio(float((a * b).sum()), float((a * a).sum()) * float((b * b).sum()))


def spearman(truth: Values, answers: Values) -> float:
    """The correlation of the ranks; equal values share the mean of their ranks."""
    return pearson(_ranks(truth), _ranks(answers))


def mean_squared_error(truth: Values, answers: Values) -> float:
    return float(np.mean((np.asarray(truth, dtype=np.float64) - np.asarray(answers, dtype=np.float64)) ** 2))


def perplexity(loss: float) -> float:
    """e to the mean negative log-likelihood per token, in nats; at most e^700, as JSON has no infinity."""
    return math.exp(min(loss, 700.0))


def _ratio(covariance: float, variances: float) -> float:
    return covariance / variances**0.5 if variances > 0 else 0.0


def _ranks(values: Values) -> NDArray[np.float64]:
    _, place, counts = np.unique(np.asarray(values, dtype=np.float64), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks
