"""PEFT's VeRA checkpoints, read as adapters of ours: hostile until checked, their matrices held to a recipe.

PEFT names the base and its modules by strings, and A and B by a seed. Here the base's own tensor table gives the sizes
(`peft_modules`), and saved matrices prove the recipe (`peft_matrices`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vera import archive as archives
from vera.archive import Archive, Vectors
from vera.base_config import BaseConfig, Setting
from vera.base_tokenizer import BaseTokenizer
from vera.errors import ArchiveError
from vera.fingerprint import BaseFingerprint
from vera.manifest import BaseIdentity, Manifest, Task
from vera.peft_checkpoint import PeftCheckpoint, unsupported
from vera.peft_format import (
    OUTPUT_TENSORS,
    REGRESSION,
    SEQUENCE_CLASSIFICATION,
    SEQUENCE_TASK_TYPE,
    TAGGING,
    TAGGING_TASK_TYPE,
    TASKS_WITHOUT_LABELS,
    head_outputs,
)
from vera.peft_matrices import Evidence, find_pair
from vera.peft_modules import find_modules
from vera.projection import DEFAULT_BUDGET_BYTES


@dataclass(frozen=True)
class Imported:
    """A PEFT checkpoint as a sealed adapter, its pair at hand when it is stored. `matrix_bytes` is what its saved
    matrices took."""

    archive: Archive
    evidence: Evidence
    checkpoint_bytes: int
    matrix_bytes: int


def import_checkpoint(
    checkpoint: PeftCheckpoint,
    base: BaseFingerprint,
    *,
    base_name: str,
    base_revision: str | None = None,
    trained_in: str | None = None,
    labels: Sequence[str] | None = None,
    labels_of_base: Sequence[str] = (),
    base_config: BaseConfig | None = None,
    base_tokenizer: BaseTokenizer | None = None,
    base_processor: Mapping[str, Setting] | None = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    card: str | None = None,
) -> Imported:
    """The VeRA checkpoint of PEFT (`read_checkpoint`), trained on `base`, as a sealed adapter.

    `base_config` is how the base is configured, `base_tokenizer` and `base_processor` how its texts or images are read, where that
    is known: it is taken to have been so in training.
    `trained_in` is the dtype the base was held in during training, to which PEFT rounds A and B. It
    is asked for (ROUNDING_UNKNOWN) only where neither saved matrices nor the dtypes of the vectors
    and of the base tell. The vectors keep their dtype.

    `labels` name the outputs of a classifier's head. Where they are not given they are `labels_of_base`, those of
    the base's configuration, when there are as many as outputs, and LABEL_0 and so on else.
    Saved matrices that follow no recipe are kept whole, as a stored projection. `card` takes the place of one that says where
    the adapter is from.

    Raises ArchiveError for what is no such checkpoint or cannot be said in our format, TargetError for
    another base, RecipeError, and ProjectionMismatch (PROJECTION_UNKNOWN) for saved matrices that
    contradict `trained_in`.
    """
    modules = find_modules(checkpoint, base)
    task = _find_task(checkpoint, labels, labels_of_base)
    found = find_pair(checkpoint, modules, base, trained_in, budget_bytes)
    vectors = Vectors(
        lambda_b={module.name: checkpoint.lambda_b[name] for name, module in modules.items()},
        lambda_d={module.name: checkpoint.lambda_d[name] for name, module in modules.items()},
        head=checkpoint.head,
    )
    data, weights, head = archives.pack(vectors, dtype=checkpoint.dtype)
    manifest = Manifest(
        base=BaseIdentity(
            base_name, base.value, base.dtype, base_revision, base_config, base_tokenizer, base_processor
        ),
        recipe=found.recipe,
        projection_digest=found.digest,
        modules=tuple(sorted(modules.values(), key=lambda module: module.name)),
        weights=weights,
        head=head,
        task=task,
        training={"imported": {"from": "peft", "projection": str(found.evidence)}},
    )
    sealed = archives.seal(manifest, data, _card(manifest, found.evidence) if card is None else card)
    return Imported(
        replace(sealed, projection=found.stored),
        found.evidence,
        checkpoint.size_bytes,
        checkpoint.matrix_bytes,
    )


# -- Its task ------------------------------------------------------------------------------------


def _find_task(checkpoint: PeftCheckpoint, labels: Sequence[str] | None, labels_of_base: Sequence[str]) -> Task | None:
    """The task that PEFT's configuration names, as far as we have a word for it."""
    task_type = checkpoint.config.task_type
    if task_type not in (SEQUENCE_TASK_TYPE, TAGGING_TASK_TYPE):
        kind = TASKS_WITHOUT_LABELS.get(task_type or "")
        return Task(kind) if kind else None
    outputs = head_outputs({name: tensor.shape for name, tensor in checkpoint.head.items()})
    if outputs is None and task_type == TAGGING_TASK_TYPE and checkpoint.head:
        return None  # under a name of its own: whoever loads it brings the model
    if outputs is None:
        raise unsupported(
            f"its task_type is {task_type}, and none of {', '.join(OUTPUT_TENSORS)} is in it: without its "
            "trained head it would answer at random",
            found=sorted(checkpoint.head)[:20],
        )
    if task_type == TAGGING_TASK_TYPE:
        return Task(TAGGING, _labels(outputs, labels, labels_of_base))
    if outputs == 1:  # transformers takes one output for a number
        return Task(REGRESSION)
    return Task(SEQUENCE_CLASSIFICATION, _labels(outputs, labels, labels_of_base))


def _labels(outputs: int, labels: Sequence[str] | None, labels_of_base: Sequence[str]) -> tuple[str, ...]:
    if labels is None:
        fits = len(labels_of_base) == outputs
        return tuple(labels_of_base) if fits else tuple(f"LABEL_{i}" for i in range(outputs))
    if len(labels) != outputs:
        raise ArchiveError(
            f"The head has {outputs} outputs and {len(labels)} labels were given: give one for each, in their order.",
            code="LABELS_MISMATCH",
            expected=outputs,
            got=len(labels),
        )
    return tuple(labels)


# -- What is said of it ---------------------------------------------------------------------------


def _card(manifest: Manifest, evidence: Evidence) -> str:
    recipe, weights = manifest.recipe, manifest.weights
    return f"""# A VeRA adapter of {manifest.base.name}

Imported from a PEFT checkpoint.

- vectors: {weights.vector_bytes:,} bytes ({manifest.parameters:,} parameters) on {len(manifest.modules)} modules; head: {weights.head_bytes:,} bytes
- projection: {recipe}
- what says so: {evidence}
"""
