"""The matrices of a PEFT checkpoint, held to a recipe: recognised and dropped, or kept whole where no recipe gives them.

PEFT draws A and B by a seed that decides them only together with the rank, the widest adapted layer and
the dtype the base was held in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vera.errors import ArchiveError, ProjectionMismatch, RecipeError
from vera.fingerprint import BaseFingerprint
from vera.manifest import DTYPES, AdaptedModule
from vera.peft_checkpoint import PeftCheckpoint
from vera.projection import (
    PEFT_MT19937,
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
from vera.streams import kaiming_bound

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
class FoundPair:
    """The matrices of the adapter, and what says that they are those of training; they themselves where no recipe
    gives them."""

    recipe: ProjectionRecipe
    digest: str
    evidence: Evidence
    stored: Projection | None = None


def find_pair(
    checkpoint: PeftCheckpoint,
    modules: Mapping[str, AdaptedModule],
    base: BaseFingerprint,
    trained_in: str | None,
    budget_bytes: int,
) -> FoundPair:
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
        return FoundPair(replace(recipe, rounding=rounding), _digests_of(recipe)[rounding], Evidence.SEED)
    used = _used_part(checkpoint.saved, recipe)
    recognised = _recognise(used, recipe)
    if recognised is None:
        for matrix in used:
            check_values(matrix)
        kept = replace(recipe, stream=STORED, seed=None)
        return FoundPair(kept, digest_of(used), Evidence.STORED, used)
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


def _recognise(saved: Projection, recipe: ProjectionRecipe) -> FoundPair | None:
    """The saved matrices as `recipe` with the rounding that gives them; None when none does."""
    digests, digest = _digests_of(recipe), digest_of(saved)
    for rounding in ROUNDINGS:
        if digests[rounding] == digest:
            return FoundPair(replace(recipe, rounding=rounding), digest, Evidence.SAVED)
    drawn = rebuild(recipe, budget_bytes=recipe.size_bytes)
    for rounding in ROUNDINGS:
        if all(_agree_unfused(*pair, rounding) for pair in zip(saved, drawn, strict=True)):
            return FoundPair(replace(recipe, rounding=rounding), digests[rounding], Evidence.SAVED_UNFUSED)
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


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
