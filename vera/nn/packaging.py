"""From a trained model to the folder that is pushed: an archive, its card and its training log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from vera import archive as archives
from vera.archive import TRAINING_LOG, Archive
from vera.data import Split
from vera.manifest import CONFIG_FILE, WEIGHTS_FILE, AdaptedModule, BaseIdentity, Manifest, Task
from vera.nn.bank import Bank, read
from vera.nn.heads import HEAD_BIAS, HEAD_WEIGHT, PooledClassifier
from vera.nn.layer import LoraDelta
from vera.nn.training import Recipe, Step
from vera.projection import ProjectionRecipe
from vera.tensorfile import serialize

TASK = "text-classification"
SUMMARY_FILE = "training.json"
# What a training run may write into its folder, whatever the method.
FOLDER_FILES = (TRAINING_LOG, SUMMARY_FILE)


@dataclass(frozen=True)
class Scores:
    """Held-out accuracy of what was trained, beside what it must beat.

    `head_only` is the same recipe without the adapter; `probe` is that head trained until it has converged.
    """

    adapter: float
    head_only: float
    probe: float
    majority: float
    items: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "accuracy": self.adapter,
            "head_only": self.head_only,
            "probe": self.probe,
            "majority": self.majority,
            "items": self.items,
        }


def vera_archive(
    bank: Bank,
    classifier: PooledClassifier,
    *,
    name: str,
    base: BaseIdentity,
    modules: Sequence[AdaptedModule],
    projection: tuple[ProjectionRecipe, str],
    split: Split,
    recipe: Recipe,
    scores: Scores,
    license: str | None = None,
) -> Archive:
    """The sealed archive of the active adapter of `bank` and the head of `classifier`."""
    assert bank.active is not None
    head = classifier.classifier
    vectors = replace(
        read(bank.slots[bank.active]), head={HEAD_BIAS: _array(head.bias), HEAD_WEIGHT: _array(head.weight)}
    )
    data, weights, head_tensors = archives.pack(vectors)
    manifest = Manifest(
        base=base,
        recipe=projection[0],
        projection_digest=projection[1],
        modules=tuple(sorted(modules, key=lambda module: module.name)),
        weights=weights,
        method=recipe.method,
        head=head_tensors,
        task=Task(TASK, split.labels, classifier.pooling, classifier.max_length),
        training={
            "data": split.name,
            "examples": len(split.train),
            "heldout_digest": split.heldout_digest,
            "recipe": recipe.to_dict(),
            "self_reported": _rounded(scores.to_dict()),
        },
        license=license,
    )
    return archives.seal(manifest, data, card(name, manifest, split, scores))


def lora_files(
    bank: Bank, classifier: PooledClassifier, *, base: BaseIdentity, recipe: Recipe, scores: Scores
) -> dict[str, bytes]:
    """A LoRA adapter in PEFT's layout, to compare with; the hub keeps VeRA adapters and does not take it."""
    assert bank.active is not None
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for name, delta in bank.slots[bank.active].deltas.items():
        assert isinstance(delta, LoraDelta)
        tensors[f"base_model.model.{name}.lora_A.weight"] = _array(delta.lora_A)
        tensors[f"base_model.model.{name}.lora_B.weight"] = _array(delta.lora_B)
    head = classifier.classifier
    tensors |= {
        f"base_model.model.{HEAD_WEIGHT}": _array(head.weight),
        f"base_model.model.{HEAD_BIAS}": _array(head.bias),
    }
    config = {
        "base_model_name_or_path": base.name,
        "bias": "none",
        "lora_alpha": 2 * recipe.rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": recipe.rank,
        "target_modules": sorted(bank.slots[bank.active].deltas),
    }
    summary = {"recipe": recipe.to_dict(), "self_reported": _rounded(scores.to_dict())}
    return {
        WEIGHTS_FILE: serialize(tensors, "F32"),
        CONFIG_FILE: _json(config),
        SUMMARY_FILE: _json(summary),
    }


def training_log(history: Sequence[Step]) -> bytes:
    """One JSON line per step: no times, so that equal trainings give equal bytes."""
    return b"".join(
        json.dumps({"epoch": s.epoch, "step": s.step, "loss": round(s.loss, 6)}).encode() + b"\n" for s in history
    )


def card(name: str, manifest: Manifest, split: Split, scores: Scores) -> str:
    """The README of a freshly trained adapter: what it does, how well, and how to use it."""
    labels = ", ".join(f"`{label}`" for label in split.labels)
    notes = "".join(f"- {note}\n" for note in split.notes)
    recipe = manifest.recipe
    return f"""# {name}

A {"DVoRA" if manifest.has_magnitude else "VeRA"} adapter of {manifest.base.name}: it sorts a text into one of {len(split.labels)} labels ({labels}).

| held out, {scores.items} texts of {split.name} | accuracy |
|---|---|
| this adapter | {scores.adapter:.1%} |
| the same training of the head alone, the base frozen | {scores.head_only:.1%} |
| the head alone, trained until it has converged | {scores.probe:.1%} |
| always the most common label | {scores.majority:.1%} |

Self-reported at training; the hub's own evaluation stands beside it on the adapter's page.

- vectors: {manifest.weights.vector_bytes:,} bytes ({manifest.parameters:,} parameters) on {len(manifest.modules)} modules; head: {manifest.weights.head_bytes:,} bytes
- a rank-8 LoRA of the same modules: {manifest.lora_bytes():,} bytes
- projection: {recipe}
{notes}
## Use it

```python
import sdk

model = sdk.load("{manifest.base.name}", "OWNER/{name}")
print(model.classify(["What is the capital of France?"]))
```
"""


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().float().cpu().numpy()


def _rounded(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: round(value, 6) if isinstance(value, float) else value for key, value in values.items()}


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
