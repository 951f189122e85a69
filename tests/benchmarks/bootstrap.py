"""How long a paired comparison takes, for each metric: `python -m tests.benchmarks.bootstrap [ITEMS]`.

The processor's time says more than that on the wall on a machine that others use too: give it one thread (OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import sys
import time
from statistics import median

import numpy as np

from hub.scoring import metrics, statistics
from hub.scoring.metrics import Form, Metric

ITEMS = 1000
TURNS = 7


def outcomes(metric: Metric, items: int, seed: int) -> list[list[float]] | list[float]:
    """What an adapter that has four of five right, or is near, earns on `items` items, which are the same for every seed."""
    asked, answered = np.random.default_rng(0), np.random.default_rng(seed)
    if metric.form is Form.CREDIT:
        return [float(each) for each in answered.random(items) < 0.8]
    if metric.form is Form.CLASSES:
        classes = 6 if metric.name == "f1_macro" else 2
        truth = asked.integers(0, classes, items)
        right = answered.random(items) < 0.8
        return np.stack([truth, np.where(right, truth, answered.integers(0, classes, items))], axis=1).tolist()
    if metric.form is Form.VALUES:
        truth_values = asked.normal(size=items)
        return np.stack([truth_values, truth_values + 0.5 * answered.normal(size=items)], axis=1).tolist()
    if metric.form is Form.LIKELIHOOD:
        return np.stack([answered.gamma(5, 5, items), asked.integers(3, 40, items)], axis=1).tolist()
    if metric.form is Form.GAIN:
        return [float(each) for each in answered.random(items)]
    return answered.integers(1, 30, (items, metric.columns)).astype(float).tolist()


def main(items: int) -> None:
    print(f"{items} items, {TURNS} turns")
    for metric in metrics.METRICS.values():
        ours, theirs = outcomes(metric, items, 1), outcomes(metric, items, 2)
        took, worked = [], []
        for _ in range(TURNS):
            started, before = time.perf_counter(), time.process_time()
            statistics.compare(ours, theirs, metric.name)
            took.append(1e3 * (time.perf_counter() - started))
            worked.append(1e3 * (time.process_time() - before))
        tables = metric.table(ours), metric.table(theirs)
        resamples = len(statistics._resampled_scores(metric, *tables)[0])
        print(
            f"{metric.name:<25} {resamples:>6} resamples  best {min(took):7.1f} ms  median {median(took):7.1f} ms  "
            f"of the processor {min(worked):7.1f} and {median(worked):7.1f} ms"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS)
