"""What every task has, whatever is learned."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor, nn

from vera.data import Examples
from vera.errors import VeraError
from vera.nn.heads import PooledHead

Scored = dict[str, float]  # a number by the name of its metric

_SMALLER_IS_BETTER = ("loss", "perplexity", "mean_squared_error")


class _Sized(Protocol):
    def __len__(self) -> int: ...


ItemT = TypeVar("ItemT", bound=_Sized)


class Task(ABC, Generic[ItemT]):
    """A task on one live base. An item knows its length: batches are made of items of like length."""

    metrics: tuple[str, ...]  # what `score` gives; the first decides unless a recipe names another
    head: PooledHead | None = None

    def __init__(self) -> None:
        self._made: dict[int, tuple[Examples, list[ItemT]]] = {}

    def items(self, examples: Examples) -> list[ItemT]:
        """`examples` as the base will be given them, in their order. Of the same examples they are made once."""
        if id(examples) not in self._made:
            self._made[id(examples)] = examples, self.make_items(examples)
        return self._made[id(examples)][1]

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """What is switched between training and evaluation mode."""

    @abstractmethod
    def make_items(self, examples: Examples) -> list[ItemT]:
        """What `items` gives."""

    @abstractmethod
    def loss(self, items: Sequence[ItemT]) -> Tensor:
        """The mean loss of `items` to train on, float32."""

    @abstractmethod
    def score(self, examples: Examples) -> Scored:
        """What the predictions for `examples` are worth, in evaluation mode and the base's own dtype."""

    def weight(self, items: Sequence[ItemT]) -> int:
        """How many terms the mean of `loss` has."""
        return len(items)

    def start(self, seed: int) -> None:
        """The head as it is before training: it depends on `seed` and the training targets alone."""

    def finish(self) -> None:
        """The head as it is kept, after its parameters were trained."""

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.classifier.parameters()) if self.head else []


def is_better(metric: str, value: float, than: float) -> bool:
    return value < than if metric in _SMALLER_IS_BETTER else value > than


def check_metric(task: Task[Any], metric: str | None) -> str:
    """The metric that decides. Raises VeraError (METRIC_UNKNOWN) for one that `task` does not have."""
    if metric is not None and metric not in task.metrics:
        raise VeraError(
            f"This task has no metric {metric!r}: there are {', '.join(task.metrics)}.",
            code="METRIC_UNKNOWN",
            metric=metric,
        )
    return metric or task.metrics[0]
