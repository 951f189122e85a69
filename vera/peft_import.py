"""PEFT's VeRA checkpoints, read as adapters of ours: hostile until checked, their matrices held to a recipe.

PEFT names the base and its modules by strings, and A and B by a seed that decides them only together
with the rank, the widest adapted layer and the dtype the base was held in. Here the base's own tensor
table gives the sizes, and saved matrices prove the recipe: they are recognised and dropped, or kept whole
where no recipe gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vera import archive as archives
from vera.archive import Archive, Vectors
from vera.errors import ArchiveError, ProjectionMismatch, RecipeError, TargetError
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.manifest import DTYPES, AdaptedModule, BaseIdentity, Manifest, Task
from vera.peft_checkpoint import PeftCheckpoint, read_checkpoint, unsupported
from vera.peft_format import OUTPUT_TENSORS, REGRESSION, SEQUENCE_CLASSIFICATION, SEQUENCE_TASK_TYPE, head_outputs
from vera.projection import (
    DEFAULT_BUDGET_BYTES,
    ROUNDINGS,
    STORED,
    Projection,
    ProjectionRecipe,
    check_budget,
    digest_of,
    rebuild,
    round_to,
)
from vera.stored import check_values
from vera.streams import PEFT_MT19937, kaiming_bound

# Matrices are compared in runs of this many values: the first run that differs ends it, and none is held twice.
_RUN = 1 << 16
# Recipes whose digests a process remembers: what people train with is a few ranks and seeds on a few bases.
_MOST_RECIPES = 1024

Array = NDArray[np.float32]


class Evidence(StrEnum):
    """What says that the recipe is the one of training."""

    SAVED = "saved matrices, equal bit for bit"
    SAVED_UNFUSED = "saved matrices, equal to the draw without fused multiply-add"
    SEED = "the seed in the configuration; no matrices were saved"
    STORED = "saved matrices, which follow no recipe and are kept as they are"


@dataclass(frozen=True)
class Imported:
    """A PEFT checkpoint as a sealed adapter, its pair at hand when it is stored. `matrix_bytes` is what its saved
    matrices took."""

    archive: Archive
    evidence: Evidence
    checkpoint_bytes: int
    matrix_bytes: int


def import_folder(
    folder: Path,
    base: BaseFingerprint,
    *,
    base_name: str,
    base_revision: str | None = None,
    trained_in: str | None = None,
    labels: Sequence[str] | None = None,
    labels_of_base: Sequence[str] = (),
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
) -> Imported:
    """The VeRA checkpoint that PEFT wrote to `folder`, trained on `base`, as a sealed adapter.

    `trained_in` is the dtype the base was held in during training, to which PEFT rounds A and B. It
    is asked for (ROUNDING_UNKNOWN) only where neither saved matrices nor the dtypes of the vectors
    and of the base tell. The vectors keep their dtype.

    `labels` name the outputs of a classifier's head. Where they are not given they are `labels_of_base`, those of
    the base's configuration, when there are as many as outputs, and LABEL_0 and so on else.
    Saved matrices that follow no recipe are kept whole, as a stored projection.

    Raises ArchiveError for what is no such checkpoint or cannot be said in our format, TargetError for
    another base, RecipeError, and ProjectionMismatch (PROJECTION_UNKNOWN) for saved matrices that
    contradict `trained_in`.
    """
    return import_checkpoint(
        read_checkpoint(folder),
        base,
        base_name=base_name,
        base_revision=base_revision,
        trained_in=trained_in,
        labels=labels,
        labels_of_base=labels_of_base,
        budget_bytes=budget_bytes,
    )


def import_checkpoint(
    checkpoint: PeftCheckpoint,
    base: BaseFingerprint,
    *,
    base_name: str,
    base_revision: str | None = None,
    trained_in: str | None = None,
    labels: Sequence[str] | None = None,
    labels_of_base: Sequence[str] = (),
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    card: str | None = None,
) -> Imported:
    """`import_folder` of a checkpoint that was read already, with `card` in place of one that says where it is from."""
    modules = _find_modules(checkpoint, base)
    task = _find_task(checkpoint, labels, labels_of_base)
    found = _find_pair(checkpoint, modules, base, trained_in, budget_bytes)
    vectors = Vectors(
        lambda_b={module.name: checkpoint.lambda_b[name] for name, module in modules.items()},
        lambda_d={module.name: checkpoint.lambda_d[name] for name, module in modules.items()},
        head=checkpoint.head,
    )
    data, weights, head = archives.pack(vectors, dtype=checkpoint.dtype)
    manifest = Manifest(
        base=BaseIdentity(base_name, base.value, base.dtype, base_revision),
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


# -- Its modules, in the base ---------------------------------------------------------------------


def _find_modules(checkpoint: PeftCheckpoint, base: BaseFingerprint) -> dict[str, AdaptedModule]:
    """PEFT's name of each adapted module to the module of the base, its sizes from the base's own table."""
    weights = {
        record.name.removesuffix(".weight"): record for record in base.tensors if record.name.endswith(".weight")
    }
    longer: dict[str, list[str]] = {}
    for name in weights:
        longer.setdefault(name.partition(".")[2], []).append(name)
    found: dict[str, AdaptedModule] = {}
    for name in checkpoint.lambda_b:
        in_base = _name_in_base(name, weights, longer)
        size = checkpoint.lambda_b[name].size
        found[name] = AdaptedModule(in_base, *_sizes(weights[in_base], size, checkpoint.config.is_transposed))
    names = [module.name for module in found.values()]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TargetError(
            f"Two modules of the checkpoint would be {twice[0]} of the base: it was trained on another base.",
            module=twice[0],
        )
    return found


def _name_in_base(name: str, weights: Mapping[str, TensorRecord], longer: Mapping[str, Sequence[str]]) -> str:
    """`name` as the base checkpoint spells it: with one leading part (such as `bert.`) more or fewer, or as it is."""
    candidates = [name, name.partition(".")[2], *(longer[name] if len(longer.get(name, ())) == 1 else ())]
    for candidate in candidates:
        if candidate in weights:
            return candidate
    raise TargetError(
        f"The base has no module {name}, which the checkpoint adapts: give the base it was trained on.", module=name
    )


def _sizes(weight: TensorRecord, out_features: int, is_transposed: bool) -> tuple[int, int]:
    """(in_features, out_features) of a module, which the length of its λb must agree with.

    PEFT's flag is that of the last layer it met, so it allows (in, out) and does not ask for it;
    where the weight is square there is nothing to tell apart.
    """
    match weight.shape:
        case (height, width) if height == out_features:
            return width, height
        case (height, width) if width == out_features and is_transposed:
            return height, width
    raise TargetError(
        f"{weight.name} has the shape {weight.shape} in this base, and the checkpoint adapts a linear map with "
        f"{out_features} outputs there: give the base it was trained on.",
        code="DIMS_MISMATCH",
        tensor=weight.name,
        shape=list(weight.shape),
        out_features=out_features,
    )


# -- Its head -------------------------------------------------------------------------------------


def _find_task(checkpoint: PeftCheckpoint, labels: Sequence[str] | None, labels_of_base: Sequence[str]) -> Task | None:
    """The task of an adapter whose head answers for whole sequences. Of any other, PEFT does not tell what it does."""
    if checkpoint.config.task_type != SEQUENCE_TASK_TYPE:
        return None
    outputs = head_outputs({name: tensor.shape for name, tensor in checkpoint.head.items()})
    if outputs is None:
        raise unsupported(
            f"its task_type is {SEQUENCE_TASK_TYPE}, and none of {', '.join(OUTPUT_TENSORS)} is in it: without its "
            "trained head it would answer at random",
            found=sorted(checkpoint.head)[:20],
        )
    if outputs == 1:  # transformers takes one output for a number
        return Task(REGRESSION)
    if labels is None:
        fits = len(labels_of_base) == outputs
        return Task(
            SEQUENCE_CLASSIFICATION, tuple(labels_of_base) if fits else tuple(f"LABEL_{i}" for i in range(outputs))
        )
    if len(labels) != outputs:
        raise ArchiveError(
            f"The head has {outputs} outputs and {len(labels)} labels were given: give one for each, in their order.",
            code="LABELS_MISMATCH",
            expected=outputs,
            got=len(labels),
        )
    return Task(SEQUENCE_CLASSIFICATION, tuple(labels))


# -- Its matrices, by recipe ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """The matrices of the adapter, and what says that they are those of training; they themselves where no recipe
    gives them."""

    recipe: ProjectionRecipe
    digest: str
    evidence: Evidence
    stored: Projection | None = None


def _find_pair(
    checkpoint: PeftCheckpoint,
    modules: Mapping[str, AdaptedModule],
    base: BaseFingerprint,
    trained_in: str | None,
    budget_bytes: int,
) -> _Pair:
    recipe = ProjectionRecipe(
        PEFT_MT19937,
        checkpoint.config.seed,
        checkpoint.config.rank,
        max(module.in_features for module in modules.values()),
        max(module.out_features for module in modules.values()),
    )
    check_budget(recipe, budget_bytes)
    if checkpoint.saved is None:
        rounding = trained_in or _rounding_of(checkpoint, modules.values(), base)
        return _Pair(replace(recipe, rounding=rounding), _digests_of(recipe)[rounding], Evidence.SEED)
    used = _used_part(checkpoint.saved, recipe)
    recognised = _recognise(used, recipe)
    if recognised is None:
        for matrix in used:
            check_values(matrix)
        kept = replace(recipe, stream=STORED, seed=None)
        return _Pair(kept, digest_of(used), Evidence.STORED, used)
    if trained_in not in (None, recognised.recipe.rounding):
        raise ProjectionMismatch(
            f"The matrices saved in the checkpoint are rounded to {recognised.recipe.rounding}, so its base was not held in "
            f"{trained_in} during training: leave --trained-in out.",
            code="PROJECTION_UNKNOWN",
            recipe=recognised.recipe.to_dict(),
        )
    return recognised


def _used_part(saved: Projection, recipe: ProjectionRecipe) -> Projection:
    """The leading columns of A and rows of B that the adapted modules use.

    PEFT gives an adapter the matrices of whichever was on the model before it, and those may be wider.
    Raises ArchiveError for smaller ones, with which PEFT itself cannot compute.
    """
    A, B = saved.A[:, : recipe.in_features], saved.B[: recipe.out_features]
    widest = (recipe.rank, recipe.in_features), (recipe.out_features, recipe.rank)
    if (A.shape, B.shape) != widest:
        raise ArchiveError(
            f"The matrices saved in the checkpoint are {_times(saved.A.shape)} and {_times(saved.B.shape)}, and its modules "
            f"need {_times(widest[0])} and {_times(widest[1])} at least: it is not whole, or its configuration was changed.",
            code="PEFT_INVALID",
        )
    return Projection(np.ascontiguousarray(A), np.ascontiguousarray(B))


def _recognise(saved: Projection, recipe: ProjectionRecipe) -> _Pair | None:
    """The saved matrices as `recipe` with the rounding that gives them; None when none does."""
    digests, digest = _digests_of(recipe), digest_of(saved)
    for rounding in ROUNDINGS:
        if digests[rounding] == digest:
            return _Pair(replace(recipe, rounding=rounding), digest, Evidence.SAVED)
    drawn = rebuild(recipe, budget_bytes=recipe.size_bytes)
    for rounding in ROUNDINGS:
        if all(_agree_unfused(*pair, rounding) for pair in zip(saved, drawn, strict=True)):
            return _Pair(replace(recipe, rounding=rounding), digests[rounding], Evidence.SAVED_UNFUSED)
    return None


@lru_cache(maxsize=_MOST_RECIPES)
def _digests_of(recipe: ProjectionRecipe) -> Mapping[str, str]:
    """The digest of the pair of `recipe` in each rounding. It is drawn the first time in a process, and whoever asks
    has checked its size; the digests alone are kept, so that those who train with one recipe wait for it once."""
    drawn = rebuild(recipe, budget_bytes=recipe.size_bytes)
    return {rounding: digest_of(drawn, rounding=rounding) for rounding in ROUNDINGS}


def _agree_unfused(saved: Array, drawn: Array, rounding: str) -> bool:
    """Whether every saved value is the drawn one after `rounding`, bit for bit, or the one drawn without FMA."""
    bound = kaiming_bound(drawn.shape[1])
    theirs, ours = saved.reshape(-1), drawn.reshape(-1)
    for start in range(0, ours.size, _RUN):
        run, bits = ours[start : start + _RUN], _bits(theirs[start : start + _RUN])
        agrees = bits == _bits(round_to(run, rounding))
        agrees |= bits == _bits(round_to(_without_fma(run, bound), rounding))
        if not agrees.all():
            return False
    return True


def _without_fma(values: Array, bound: np.float32) -> Array:
    """`values` of the stream as torch's portable kernels compute them: the product is rounded before the sum.

    The 24 bits that were drawn can be read off a value exactly: they are at least a unit in the
    last place of the bound apart.
    """
    units = np.rint((values.astype(np.float64) + float(bound)) / (2 * float(bound)) * 2.0**24) * 2.0**-24
    return units.astype(np.float32) * (bound + bound) - bound


def _bits(values: Array) -> NDArray[np.uint32]:
    return np.ascontiguousarray(values).view(np.uint32)


def _rounding_of(checkpoint: PeftCheckpoint, modules: Iterable[AdaptedModule], base: BaseFingerprint) -> str:
    """The dtype the base was held in during training, as far as dtypes tell: PEFT rounds its draw to it.

    PEFT keeps the vectors in float32 unless it is told otherwise, so vectors of 16 bits tell and
    those of 32 do not; a base stored in float32 is taken to have been held so.
    """
    if checkpoint.dtype != "float32":
        return checkpoint.dtype
    weights = {f"{module.name}.weight" for module in modules}
    stored = {record.dtype for record in base.tensors if record.name in weights}
    if stored == {DTYPES["float32"]}:
        return "float32"
    raise RecipeError(
        "PEFT rounds its matrices to the dtype the base was held in during training, and this checkpoint holds neither "
        f"the matrices nor that dtype (the base is stored in {', '.join(sorted(stored))}). Say it with --trained-in: "
        "bfloat16 or float16 if it was loaded so, float32 if it was loaded so or quantised.",
        code="ROUNDING_UNKNOWN",
        stored=sorted(stored),
    )


# -- What is said of it ---------------------------------------------------------------------------


def _card(manifest: Manifest, evidence: Evidence) -> str:
    recipe, weights = manifest.recipe, manifest.weights
    return f"""# A VeRA adapter of {manifest.base.name}

Imported from a PEFT checkpoint.

- vectors: {weights.vector_bytes:,} bytes ({manifest.parameters:,} parameters) on {len(manifest.modules)} modules; head: {weights.head_bytes:,} bytes
- projection: {recipe}
- what says so: {evidence}
"""


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
