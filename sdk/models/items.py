"""What a hub answers about the items of evaluations."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.models.answer import Answer


@dataclass(frozen=True)
class ItemComparison(Answer):
    """One item, numbered from 1 in the order of the suite's data. `change` is worse, better or same."""

    item: int
    change: str
    output: str
    against_output: str
    outcome: tuple[float, ...]
    against_outcome: tuple[float, ...]


@dataclass(frozen=True)
class ItemsCompared(Answer):
    """The items of one evaluation against another, those first that lost most. The counts are of all items."""

    suite: str
    metric: str
    ref: str
    against: str
    worse: int
    better: int
    same: int
    items: tuple[ItemComparison, ...]
    next: str | None = None
