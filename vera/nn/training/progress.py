"""Where a training stands, and what there is of it when it is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vera.nn.training.task import Scored

VALIDATION = "validation"  # the part that chooses the best epoch


@dataclass(frozen=True)
class Step:
    """Where training stands: `loss` is the mean since the epoch began."""

    epoch: int
    step: int
    steps: int
    loss: float


Report = Callable[[Step], None]


@dataclass(frozen=True)
class Epoch:
    """An epoch that is over: its mean loss, and what it scores on each part that is watched."""

    number: int
    loss: float
    scores: Mapping[str, Scored] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """What the trained parameters were after an epoch, on the CPU."""

    epoch: int
    tensors: list[Tensor]


@dataclass
class Progress:
    """Where a training stands: everything but the parameters, the optimizer and the generators."""

    epoch: int = 1
    step_in_epoch: int = 0
    loss_sum: float = 0.0
    steps: list[Step] = field(default_factory=list)
    epochs: list[Epoch] = field(default_factory=list)
    best: Snapshot | None = None

    @property
    def best_epoch(self) -> Epoch | None:
        return self.epochs[self.best.epoch - 1] if self.best else None

    def to_dict(self) -> dict[str, Any]:
        """As plain values and tensors; of a long training, quickly."""
        return {
            "at": (self.epoch, self.step_in_epoch, self.loss_sum),
            "steps": [(step.epoch, step.step, step.steps, step.loss) for step in self.steps],
            "epochs": [(epoch.number, epoch.loss, dict(epoch.scores)) for epoch in self.epochs],
            "best": self.best and (self.best.epoch, self.best.tensors),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Progress:
        epoch, step_in_epoch, loss_sum = saved["at"]
        steps, epochs = [Step(*step) for step in saved["steps"]], [Epoch(*epoch) for epoch in saved["epochs"]]
        return cls(epoch, step_in_epoch, loss_sum, steps, epochs, saved["best"] and Snapshot(*saved["best"]))


@dataclass(frozen=True)
class Fitted:
    """A training that is over. `best` is None where nothing was watched."""

    steps: Sequence[Step]
    epochs: Sequence[Epoch]
    last: Snapshot
    best: Snapshot | None
