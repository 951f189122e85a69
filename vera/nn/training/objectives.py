"""What the outputs of a head should be: the loss they are trained by, and the numbers they are judged by."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from vera import metrics
from vera.data import Examples
from vera.nn.training.task import Scored


class Objective(ABC):
    """What the outputs of a head should be."""

    metrics: tuple[str, ...]

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Sequence[Any]) -> Tensor: ...

    def in_units(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Outputs of a head that is being trained, in the unit of the targets."""
        return outputs

    @abstractmethod
    def score(self, outputs: NDArray[np.float32], examples: Examples) -> Scored: ...


@dataclass(frozen=True)
class Classes(Objective):
    """One output per label; cross-entropy."""

    labels: tuple[str, ...]
    label_smoothing: float = 0.0

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]  # it depends on the labels
        of_each = tuple(_f1_of(label) for label in self.labels) if len(self.labels) == 2 else ()
        return ("accuracy", "f1_macro", "matthews", *of_each)

    def loss(self, outputs: Tensor, targets: Sequence[int]) -> Tensor:
        wanted = torch.tensor(targets, device=outputs.device)
        return functional.cross_entropy(outputs.float(), wanted, label_smoothing=self.label_smoothing)

    def score(self, outputs: NDArray[np.float32], examples: Examples) -> Scored:
        if not np.isfinite(outputs).all():
            return dict.fromkeys(self.metrics, math.nan)  # of which the first output would be the largest
        truth, answers = examples.classes, outputs.argmax(-1)
        of_each = {
            _f1_of(label): metrics.f1(truth, answers, positive=index)
            for index, label in enumerate(self.labels)
            if len(self.labels) == 2  # of many labels, the mean is what is read
        }
        return {
            "accuracy": metrics.accuracy(truth, answers),
            "f1_macro": metrics.f1_macro(truth, answers),
            "matthews": metrics.matthews(truth, answers),
            **of_each,
        }


class Values(Objective):
    """One output: a number; mean squared error, in standard deviations of the training targets.

    Whatever unit the targets have, the head learns numbers of order 1; `PooledTask.finish` gives it the unit.
    """

    metrics = ("pearson", "spearman", "mean_squared_error")

    def __init__(self, mean: float, deviation: float) -> None:
        self.mean, self.deviation = mean, deviation

    @classmethod
    def of(cls, values: Sequence[float]) -> Values:
        return cls(float(np.mean(values)), float(np.std(values)) or 1.0)

    def loss(self, outputs: Tensor, targets: Sequence[float]) -> Tensor:
        wanted = (torch.tensor(targets, dtype=torch.float32, device=outputs.device) - self.mean) / self.deviation
        return functional.mse_loss(outputs.float()[:, 0], wanted)

    def in_units(self, outputs: NDArray[np.float32]) -> NDArray[np.float32]:
        return outputs * np.float32(self.deviation) + np.float32(self.mean)

    def score(self, outputs: NDArray[np.float32], examples: Examples) -> Scored:
        truth, answers = examples.values, outputs[:, 0].astype(np.float64)
        return {
            "pearson": metrics.pearson(truth, answers),
            "spearman": metrics.spearman(truth, answers),
            "mean_squared_error": metrics.mean_squared_error(truth, answers),
        }


def _f1_of(label: str) -> str:
    return f"f1 {label}"
