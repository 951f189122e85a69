"""The tasks of a group: whose items come when, and what each task is worth beside the group's one score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hub.scoring import metrics, statistics
from hub.scoring.metrics import Outcome

Scores = dict[str, tuple[float, tuple[float, float]]]


def turns(sizes: Sequence[int]) -> list[tuple[int, int]]:
    """Of each item of the group its number within its task, and which task that is: the first of each come first, so that the
    first items are of every task."""
    return sorted((number, task) for task, size in enumerate(sizes) for number in range(size))


def scores(sizes: Sequence[int], outcomes: Mapping[str, Sequence[Outcome]]) -> list[Scores]:
    """The score of each task with its 95% interval, by each metric of which there are outcomes of the group's items. Raises
    ValueError as `metrics.score`."""
    rows: list[list[int]] = [[] for _ in sizes]
    for row, (_, task) in enumerate(turns(sizes)):
        rows[task].append(row)
    return [
        {metric: _scored(metric, [each[row] for row in some]) for metric, each in outcomes.items()} for some in rows
    ]


def _scored(metric: str, outcomes: Sequence[Outcome]) -> tuple[float, tuple[float, float]]:
    return metrics.score(metric, outcomes), statistics.interval(metric, outcomes)
