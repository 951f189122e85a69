"""Classification and regression: a head on the pooled hidden states of texts, pairs or images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vera.data import Examples
from vera.nn.heads import ImageClassifier, PooledHead, TextHead
from vera.nn.training.objectives import Objective, Values
from vera.nn.training.task import Scored, Task


@dataclass(frozen=True)
class Labelled:
    """An item of a pooled task and its target."""

    input: Any
    target: Any

    def __len__(self) -> int:
        return len(self.input)


class PooledTask(Task[Labelled]):
    """A head that is trained on the base's pooled hidden states."""

    def __init__(self, head: PooledHead, objective: Objective) -> None:
        super().__init__()
        self.head: PooledHead = head
        self.objective = objective
        self.metrics = objective.metrics
        self._is_finished = False

    @property
    def module(self) -> nn.Module:
        return self.head

    def make_items(self, examples: Examples) -> list[Labelled]:
        return [Labelled(x, y) for x, y in zip(self.encoded(examples), examples.targets, strict=True)]

    def encoded(self, examples: Examples) -> Sequence[Any]:
        if isinstance(self.head, TextHead):
            return self.head.encode(examples.texts, examples.pairs)
        assert isinstance(self.head, ImageClassifier)
        return self.head.encode(examples.images or ())

    def loss(self, items: Sequence[Labelled]) -> Tensor:
        return self.objective.loss(self.forward(items), [item.target for item in items])

    def forward(self, items: Sequence[Labelled]) -> Tensor:
        outputs: Tensor = self.head(**self.head.batch([item.input for item in items]))
        return outputs

    def score(self, examples: Examples) -> Scored:
        return self._judged(self.head.outputs([item.input for item in self.items(examples)]), examples)

    def start(self, seed: int) -> None:
        """A small random head."""
        generator, head = torch.Generator().manual_seed(seed), self.head.classifier
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * 0.02)
            head.bias.zero_()
        self._is_finished = False

    def finish(self) -> None:
        """Give the outputs of a regression the unit of its targets."""
        if isinstance(self.objective, Values):
            head, values = self.head.classifier, self.objective
            with torch.no_grad():
                head.weight.mul_(values.deviation)
                head.bias.mul_(values.deviation).add_(values.mean)
        self._is_finished = True

    def _judged(self, outputs: NDArray[np.float32], examples: Examples) -> Scored:
        return self.objective.score(outputs if self._is_finished else self.objective.in_units(outputs), examples)


@dataclass(frozen=True)
class Feature:
    """The pooled hidden state (hidden) of an item, and the length of the item it is of."""

    pooled: NDArray[np.float32]
    length: int

    def __len__(self) -> int:
        return self.length


class FeatureTask(PooledTask):
    """The head alone, the base frozen: its features are computed once, so training it takes seconds.

    The same items in the same order as with the base in the loop, whose dropout would have no effect.
    """

    def __init__(self, task: PooledTask) -> None:
        super().__init__(task.head, task.objective)

    @property
    def module(self) -> nn.Module:
        return self.head.classifier

    def make_items(self, examples: Examples) -> list[Labelled]:
        encoded = self.encoded(examples)
        rows = zip(self.head.features(encoded), encoded, examples.targets, strict=True)
        return [Labelled(Feature(pooled, len(item)), target) for pooled, item, target in rows]

    def forward(self, items: Sequence[Labelled]) -> Tensor:
        pooled = torch.from_numpy(np.stack([item.input.pooled for item in items]))
        return self.head.classify_pooled(pooled.to(self.head.device))

    def score(self, examples: Examples) -> Scored:
        with torch.inference_mode():
            outputs = self.forward(self.items(examples)).float().cpu().numpy()
        return self._judged(outputs, examples)
