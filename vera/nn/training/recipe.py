"""How to train: one frozen value, valid by construction, that with the data and the base decides every byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vera.data import IMAGE_CLASSIFICATION, TEXT_CLASSIFICATION, TEXT_GENERATION
from vera.errors import VeraError
from vera.projection import PEFT_MT19937

METHODS = ("vera", "dvora", "lora", "head", "full")
SCHEDULES = ("linear", "cosine", "constant")
KEEPS = ("last", "best")
DTYPES = ("stored", "float32", "bfloat16")


@dataclass(frozen=True)
class Recipe:
    """How to train. The defaults are for short texts on a small encoder, chosen on a part of a training set.

    VeRA wants about ten times LoRA's learning rate, and the head one of its own. Raises VeraError
    (TRAINING_INVALID) when a value is out of range.
    """

    method: str = "vera"
    stream: str = PEFT_MT19937  # what PEFT can rebuild too
    rank: int = 256
    epochs: int = 6
    batch_size: int = 16
    accumulation: int = 1  # batches whose gradients make one step, as one batch of them all would
    learning_rate: float = 2e-2
    head_learning_rate: float = 5e-3
    schedule: str = "linear"
    warmup: float = 0.06  # share of all steps; Kopiczko et al. 2024, Table 8
    warmup_steps: int | None = None  # instead of the share
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    clip: float | None = None  # largest norm of the gradient
    dropout: bool = False  # True: the base's own rates; on short texts it cost half a point in cross-validation
    dtype: str = "stored"  # on a base in float16 the loss is scaled; bfloat16: autocast over the base as it is stored
    metric: str | None = None  # what decides which epoch is best; None: the first of the task's
    validation: bool = False  # set a tenth of the training items aside, and score every epoch on them
    keep: str = "last"  # or the best epoch by validation
    patience: int | None = None  # stop after so many epochs that were not the best
    chat: bool = False  # generation: the prompt as a user's turn in the base's chat template
    separator: str = "\n"  # generation: between a prompt that is not empty and its completion
    seed: int = 0
    max_length: int = 64

    def __post_init__(self) -> None:
        for name, allowed in (("method", METHODS), ("schedule", SCHEDULES), ("keep", KEEPS), ("dtype", DTYPES)):
            _require(getattr(self, name) in allowed, name, getattr(self, name), f"one of {', '.join(allowed)}")
        for name in ("rank", "epochs", "batch_size", "accumulation", "patience", "max_length"):
            value = getattr(self, name)
            _require(value is None or value >= 1, name, value, "at least 1")
        for name in ("learning_rate", "head_learning_rate", "clip"):
            value = getattr(self, name)
            _require(value is None or 0 < value < float("inf"), name, value, "more than 0")
        for name in ("warmup", "label_smoothing"):
            _require(0 <= getattr(self, name) < 1, name, getattr(self, name), "from 0 to less than 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(self.warmup_steps is None or self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")

    @property
    def watches(self) -> bool:
        """Whether every epoch is scored on a part of the training set."""
        return self.validation or self.keep == "best" or self.patience is not None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def with_values(self, values: Mapping[str, Any]) -> Recipe:
        """This recipe with those of `values` that are not None."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})


# Where neither a named recipe nor an option says otherwise.
_OF_TASK: Mapping[str, Mapping[str, Any]] = {
    TEXT_GENERATION: {"epochs": 3, "batch_size": 8, "learning_rate": 1e-2, "weight_decay": 0.01, "max_length": 256},
    IMAGE_CLASSIFICATION: {"epochs": 10, "batch_size": 32, "head_learning_rate": 4e-3, "weight_decay": 0.01},
}
_VERA: Mapping[str, Any] = {"rank": 256, "learning_rate": 2e-2}
_OF_METHOD: Mapping[str, Mapping[str, Any]] = {
    "vera": _VERA,
    "dvora": _VERA,
    "lora": {"rank": 8, "learning_rate": 1e-3},
    "full": {"learning_rate": 5e-5},
    "head": {},
}


def default_recipe(task: str = TEXT_CLASSIFICATION, method: str = "vera") -> Recipe:
    """What is tried first for `task` by `method`."""
    return by_method(Recipe(**_OF_TASK.get(task, {})), method)


def by_method(recipe: Recipe, method: str) -> Recipe:
    """`recipe` with another method, and the rank and learning rate that are usual for that one.

    VeRA and DVoRA share theirs: from one to the other, the recipe keeps its own.
    """
    if _OF_METHOD.get(method) is _OF_METHOD[recipe.method]:
        return replace(recipe, method=method)
    return replace(recipe, method=method, **_OF_METHOD.get(method, {}))


def _require(holds: bool, name: str, value: object, what: str) -> None:
    if not holds:
        raise VeraError(f"{name} is {value!r} and must be {what}.", code="TRAINING_INVALID", field=name)
