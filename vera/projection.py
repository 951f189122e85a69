"""From a recipe to the frozen pair (A, B), and the digest that proves it is the right pair.

A seed is not enough: one seed gives other matrices for another rank, another largest layer,
another default dtype or another build of torch. A recipe says everything the draw depends on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vera.errors import AdapterTooLarge, ProjectionMismatch, RecipeError
from vera.streams import MATRIX_A, MATRIX_B, PEFT_MT19937, PHILOX, PeftMt19937, Philox4x32, kaiming_bound

MAX_RANK = 4096
MAX_FEATURES = 1 << 20
# RFC 8785 writes every number as a double, so an integer beyond this has no canonical form.
MAX_SEED = (1 << 53) - 1
STREAMS = (PEFT_MT19937, PHILOX)
ROUNDINGS = ("float32", "bfloat16", "float16")
DEFAULT_BUDGET_BYTES = 1 << 30

# Pairs are rounded and hashed in runs of this many values: a large matrix is never held twice.
_RUN = 1 << 18


class Projection(NamedTuple):
    """A (rank x in_features) and B (out_features x rank), float32, C-contiguous, read-only."""

    A: NDArray[np.float32]
    B: NDArray[np.float32]


@dataclass(frozen=True)
class ProjectionRecipe:
    """Everything A and B depend on. Valid by construction: RecipeError otherwise.

    `in_features` and `out_features` are those of the widest adapted module; narrower modules use
    the leading columns of A and the leading rows of B. `rounding` is the dtype the draw was
    rounded to before use.
    """

    stream: str
    seed: int
    rank: int
    in_features: int
    out_features: int
    rounding: str = "float32"

    def __post_init__(self) -> None:
        if self.stream not in STREAMS:
            raise RecipeError(
                f"The stream {str(self.stream)[:80]!r} is not known here (known: {', '.join(STREAMS)}): "
                "a newer vera-hub may know it.",
                code="STREAM_UNKNOWN",
                stream=str(self.stream)[:80],
            )
        if self.rounding not in ROUNDINGS:
            raise RecipeError(
                f"The rounding {str(self.rounding)[:80]!r} is none of {', '.join(ROUNDINGS)}.",
                rounding=str(self.rounding)[:80],
            )
        _check_int("seed", self.seed, 0, MAX_SEED, "SEED_INVALID")
        _check_int("rank", self.rank, 1, MAX_RANK, "RANK_INVALID")
        _check_int("in_features", self.in_features, 1, MAX_FEATURES, "DIMS_INVALID")
        _check_int("out_features", self.out_features, 1, MAX_FEATURES, "DIMS_INVALID")

    @property
    def size_bytes(self) -> int:
        """Bytes of the rebuilt pair in float32."""
        return 4 * self.rank * (self.in_features + self.out_features)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def rebuild(recipe: ProjectionRecipe, *, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> Projection:
    """The pair (A, B) that `recipe` describes. Deterministic and the same on every machine.

    Raises AdapterTooLarge, before allocating anything, when the pair exceeds `budget_bytes`.
    """
    check_budget(recipe, budget_bytes)
    pair = _DRAWS[recipe.stream](recipe)
    for matrix in pair:
        _round_in_place(matrix, recipe.rounding)
        matrix.flags.writeable = False
    return pair


def check_budget(recipe: ProjectionRecipe, budget_bytes: int) -> None:
    """Raises AdapterTooLarge when the pair exceeds `budget_bytes`."""
    if recipe.size_bytes > budget_bytes:
        raise AdapterTooLarge(
            f"The matrices of rank {recipe.rank} for {recipe.in_features} x {recipe.out_features} need "
            f"{recipe.size_bytes:,} bytes and the budget is {budget_bytes:,}: raise the budget if you trust this adapter.",
            needed_bytes=recipe.size_bytes,
            budget_bytes=budget_bytes,
        )


def prove(recipe: ProjectionRecipe, digest: str, *, budget_bytes: int = DEFAULT_BUDGET_BYTES) -> Projection:
    """The pair of `recipe`, proven to be the one `digest` names.

    Raises ProjectionMismatch with both digests when it is another one.
    """
    pair = rebuild(recipe, budget_bytes=budget_bytes)
    rebuilt = digest_of(pair)
    if rebuilt != digest:
        raise ProjectionMismatch(
            f"The recipe (seed {recipe.seed}, rank {recipe.rank}, {recipe.in_features} x {recipe.out_features}, "
            f"{recipe.stream}) rebuilds the projection {rebuilt}, but the adapter was trained with {digest}. "
            "The recipe in its manifest was changed after training: ask its author for the original.",
            expected=digest,
            got=rebuilt,
        )
    return pair


def digest_of(pair: Projection) -> str:
    """`sha256:…` over the little-endian float32 bytes of A, then B, row-major."""
    hasher = hashlib.sha256()
    for run in _canonical_bytes(pair):
        hasher.update(run)
    return f"sha256:{hasher.hexdigest()}"


def round_to(values: NDArray[np.float32], rounding: str) -> NDArray[np.float32]:
    """`values` rounded to nearest even in `rounding`, as float32."""
    if rounding == "bfloat16":
        return round_to_bfloat16(values)
    if rounding == "float16":
        return values.astype(np.float16).astype(np.float32)
    return values


def round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` rounded to nearest even in bfloat16, as float32: NumPy has no bfloat16.

    A NaN stays one: the carry of the rounding would turn 0x7FFFFFFF, CUDA's NaN, into -0.0.
    """
    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), np.float32(np.nan), rounded.view(np.float32))


def _draw_peft_mt19937(recipe: ProjectionRecipe) -> Projection:
    draw = PeftMt19937(recipe.seed).uniform  # one stream: A first, then B
    a = draw((recipe.rank, recipe.in_features), kaiming_bound(recipe.in_features))
    b = draw((recipe.out_features, recipe.rank), kaiming_bound(recipe.rank))
    return Projection(a, b)


def _draw_philox(recipe: ProjectionRecipe) -> Projection:
    draw = Philox4x32(recipe.seed).uniform
    a = draw(MATRIX_A, (recipe.rank, recipe.in_features), kaiming_bound(recipe.in_features))
    b = draw(MATRIX_B, (recipe.out_features, recipe.rank), kaiming_bound(recipe.rank))
    return Projection(a, b)


_DRAWS = {PEFT_MT19937: _draw_peft_mt19937, PHILOX: _draw_philox}


def _round_in_place(matrix: NDArray[np.float32], rounding: str) -> None:
    flat = matrix.reshape(-1)
    for start in range(0, flat.size, _RUN):
        flat[start : start + _RUN] = round_to(flat[start : start + _RUN], rounding)


def _canonical_bytes(pair: Projection) -> Iterator[memoryview]:
    for matrix in pair:
        flat = np.ascontiguousarray(matrix, dtype="<f4").reshape(-1)
        for start in range(0, flat.size, _RUN):
            yield flat[start : start + _RUN].data


def _check_int(name: str, value: object, low: int, high: int, code: str) -> None:
    if type(value) is not int or not low <= value <= high:
        raise RecipeError(
            f"{name} must be an integer from {low} to {high}, and is {repr(value)[:40]}.",
            code=code,
            field=name,
            got=repr(value)[:40],
        )
