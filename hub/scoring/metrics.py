"""What a suite's number is, computed from the credit each item earned."""

from __future__ import annotations

from collections.abc import Sequence

METRICS = ("accuracy",)


def score(metric: str, outcomes: Sequence[float]) -> float:
    """The score of `outcomes` (one credit in 0..1 per item). Raises ValueError for an unknown metric or no items."""
    if metric not in METRICS:
        raise ValueError(f"The metric {metric!r} is not known here (known: {', '.join(METRICS)}).")
    if not outcomes:
        raise ValueError("A score needs at least one item.")
    return sum(outcomes) / len(outcomes)
