"""From a trained model to the folder that is pushed: an archive, its card and its training log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vera import __version__
from vera import archive as archives
from vera.archive import Archive, Vectors
from vera.data import Split
from vera.folders import LOSS_CURVE, TRAINING_LOG
from vera.manifest import CONFIG_FILE, WEIGHTS_FILE, AdaptedModule, BaseIdentity, Manifest, Task
from vera.nn import card
from vera.nn.bank import Bank
from vera.nn.heads import HEAD_BIAS, HEAD_WEIGHT, ImageClassifier, PooledHead
from vera.nn.layer import LoraDelta
from vera.nn.merge import lora_keys
from vera.nn.slots import read
from vera.nn.training.methods import LORA_ALPHA_PER_RANK, TRAINED, Trainable
from vera.nn.training.progress import Epoch, Step
from vera.nn.training.recipe import Recipe
from vera.peft_format import head_key
from vera.projection import ProjectionRecipe
from vera.tensorfile import serialize

SUMMARY_FILE = "training.json"
# What a training run may write into its folder, whatever the method.
FOLDER_FILES = (TRAINING_LOG, LOSS_CURVE, SUMMARY_FILE)
_MOST_SOURCE_FILES = 20  # of what the manifest says of the data

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Scores:
    """What was trained is worth on the held-out set, beside what it must beat.

    `last` and `best` are of the epochs of that name; `best` is None where no epoch was watched.
    `baselines`: `head_only` is the same recipe without the adapter, `probe` that head trained until it
    has converged, `base` the bare base, `trivial` an answer that ignores the item.
    """

    metric: str
    items: int
    kept: str
    last_epoch: int
    last: Mapping[str, float]
    best_epoch: int | None = None
    best: Mapping[str, float] | None = None
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def adapter(self) -> Mapping[str, float]:
        """Of the epoch that was kept."""
        return self.last if self.kept == "last" or self.best is None else self.best

    def to_dict(self) -> dict[str, Any]:
        scores = {"metric": self.metric, "items": self.items, "kept": self.kept, "last_epoch": self.last_epoch}
        best = {"best_epoch": self.best_epoch, "best": _rounded(self.best)} if self.best is not None else {}
        baselines = {name: _rounded(values) for name, values in self.baselines.items()}
        return {**scores, "last": _rounded(self.last), **best, **baselines}


@dataclass(frozen=True)
class Learned:
    """What was learned, copied off the model it was learned on."""

    modules: Sequence[AdaptedModule]
    projection: tuple[ProjectionRecipe, str] | None
    vectors: Vectors | None
    factors: Mapping[str, Array]  # of a LoRA, by PEFT's keys
    head: Mapping[str, Array]

    @classmethod
    def on(cls, bank: Bank, trainable: Trainable, head: PooledHead | None) -> Learned:
        """What `trainable` and `head` are now."""
        tensors = head_tensors(head)
        if trainable.projection is None:
            return cls(trainable.modules, None, None, _lora_factors(bank), tensors)
        vectors = replace(read(bank.slots[TRAINED]), head=tensors)
        return cls(trainable.modules, trainable.projection, vectors, {}, tensors)


@dataclass(frozen=True)
class About:
    """What is said of a training, beside what it learned."""

    name: str
    base: BaseIdentity
    split: Split
    recipe: Recipe
    scores: Scores
    license: str | None = None
    head: PooledHead | None = None
    quantization: str | None = None

    @property
    def task(self) -> Task:
        pooling = self.head.pooling if self.head else None
        max_length = None if isinstance(self.head, ImageClassifier) else self.recipe.max_length
        return Task(self.split.task, self.split.labels, pooling, max_length)

    @property
    def notes(self) -> dict[str, Any]:
        """The manifest's `training`: how to get the same bytes again, and what they scored."""
        source = self.split.source.to_dict() if self.split.source else {}
        if len(source.get("files", ())) > _MOST_SOURCE_FILES:
            source["files"] = f"{len(source['files'])} files"
        return {
            "data": self.split.name,
            "source": source,
            "examples": len(self.split.train),
            "data_digest": self.split.digest,
            "heldout_digest": self.split.heldout_digest,
            "made_with": {"vera-hub": __version__, "torch": str(torch.__version__)},
            "recipe": self.recipe.to_dict(),
            **({"quantization": self.quantization} if self.quantization else {}),
            "self_reported": self.scores.to_dict(),
        }


def vera_archive(learned: Learned, about: About) -> Archive:
    """The sealed archive of what was learned."""
    assert learned.vectors is not None
    assert learned.projection is not None
    data, weights, head = archives.pack(learned.vectors)
    manifest = Manifest(
        method=about.recipe.method,
        base=about.base,
        recipe=learned.projection[0],
        projection_digest=learned.projection[1],
        modules=tuple(sorted(learned.modules, key=lambda module: module.name)),
        weights=weights,
        head=head,
        task=about.task,
        training=about.notes,
        license=about.license,
    )
    text = card.of_adapter(about.name, manifest, about.split, about.recipe, about.scores)
    return archives.seal(manifest, data, text)


def plain_files(learned: Learned | None, about: About) -> dict[str, bytes]:
    """What a method to compare with leaves: its summary and, for a LoRA, the adapter in PEFT's layout.

    The hub keeps VeRA adapters and takes neither.
    """
    summary = {SUMMARY_FILE: _json({"base": about.base.name, **about.notes})}
    if learned is None:
        return summary
    rank = about.recipe.rank
    config = {
        "base_model_name_or_path": about.base.name,
        "bias": "none",
        "lora_alpha": LORA_ALPHA_PER_RANK * rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": [module.name for module in learned.modules],
    }
    tensors = {**learned.factors, **{head_key(name): array for name, array in learned.head.items()}}
    return {WEIGHTS_FILE: serialize(tensors, "F32"), CONFIG_FILE: _json(config), **summary}


def head_tensors(head: PooledHead | None) -> dict[str, Array]:
    if head is None:
        return {}
    return {HEAD_BIAS: _array(head.classifier.bias), HEAD_WEIGHT: _array(head.classifier.weight)}


def training_log(steps: Sequence[Step], epochs: Sequence[Epoch]) -> bytes:
    """One JSON line per step, and per epoch that was scored: no times, so that equal trainings give equal bytes."""
    scored = {epoch.number: epoch for epoch in epochs if epoch.scores}
    lines: list[dict[str, Any]] = []
    for at, step in enumerate(steps):
        lines.append({"epoch": step.epoch, "step": step.step, "loss": round(step.loss, 6)})
        is_last = at + 1 == len(steps) or steps[at + 1].epoch != step.epoch
        if is_last and step.epoch in scored:
            parts = {part: _rounded(values) for part, values in scored[step.epoch].scores.items()}
            lines.append({"epoch": step.epoch, **parts})
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _lora_factors(bank: Bank) -> dict[str, Array]:
    factors: dict[str, Array] = {}
    for name, delta in bank.slots[TRAINED].deltas.items():
        assert isinstance(delta, LoraDelta)
        key_A, key_B = lora_keys(name, bank.targets[name])
        factors[key_A], factors[key_B] = _array(delta.lora_A), _array(delta.lora_B)
    return factors


def _array(tensor: torch.Tensor) -> Array:
    """A copy: the parameter may be trained on."""
    array: Array = tensor.detach().float().cpu().numpy().copy()
    return array


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
