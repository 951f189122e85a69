"""From a recipe to the frozen pair (A, B), and the digest that proves it is the right pair.

A seed is not enough: one seed gives other matrices for another rank, another largest layer,
another default dtype or another build of torch. A recipe says everything the draw depends on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from vera import stored
from vera.errors import AdapterTooLarge, ProjectionMismatch, ProjectionMissing, RecipeError

if TYPE_CHECKING:
    import numpy as np  # 40 ms, and a recipe is read without it: imported where matrices are made
    from numpy.typing import NDArray

# The streams of `vera.streams`.
PEFT_MT19937 = "peft-mt19937/1"
PHILOX = "philox4x32-10/1"
MAX_RANK = 4096
MAX_FEATURES = 1 << 20
# RFC 8785 writes every number as a double, so an integer beyond this has no canonical form.
MAX_SEED = (1 << 53) - 1
STREAMS = (PEFT_MT19937, PHILOX)  # those that matrices are drawn from
STORED = "stored"  # no recipe gives them: their bytes are kept, and named by their digest
ROUNDINGS = ("float32", "bfloat16", "float16")
DEFAULT_BUDGET_BYTES = 1 << 30

# Pairs are rounded and hashed in runs of this many values: a large matrix is never held twice.
_RUN = 1 << 18


class Projection(NamedTuple):
    """A (rank x in_features) and B (out_features x rank), float32, C-contiguous, read-only."""

    A: NDArray[np.float32]
    B: NDArray[np.float32]


# Where a stored pair is: a file of its canonical bytes, or the pair itself.
PairSource: TypeAlias = Path | Projection


@dataclass(frozen=True)
class ProjectionRecipe:
    """Everything A and B depend on. Valid by construction: RecipeError otherwise.

    `in_features` and `out_features` are those of the widest adapted module; narrower modules use
    the leading columns of A and the leading rows of B. `rounding` is the dtype the draw was
    rounded to before use. A stored pair has no seed, and its bytes are what they are.
    """

    stream: str
    seed: int | None
    rank: int
    in_features: int
    out_features: int
    rounding: str = "float32"

    def __post_init__(self) -> None:
        if self.stream not in (*STREAMS, STORED):
            raise RecipeError(
                f"The stream {str(self.stream)[:80]!r} is not known here (known: {', '.join((*STREAMS, STORED))}): "
                "a newer vera-hub may know it.",
                code="STREAM_UNKNOWN",
                stream=str(self.stream)[:80],
            )
        if self.rounding not in ROUNDINGS:
            raise RecipeError(
                f"The rounding {str(self.rounding)[:80]!r} is none of {', '.join(ROUNDINGS)}.",
                rounding=str(self.rounding)[:80],
            )
        if self.is_stored:
            _check_nothing_is_drawn(self)
        else:
            _check_int("seed", self.seed, 0, MAX_SEED, "SEED_INVALID")
        _check_int("rank", self.rank, 1, MAX_RANK, "RANK_INVALID")
        _check_int("in_features", self.in_features, 1, MAX_FEATURES, "DIMS_INVALID")
        _check_int("out_features", self.out_features, 1, MAX_FEATURES, "DIMS_INVALID")

    def __str__(self) -> str:
        drawn = f" ({self.size_bytes:,} bytes)" if self.is_stored else f", seed {self.seed}, rounded to {self.rounding}"
        return f"{self.stream}{drawn}, rank {self.rank}, {self.in_features} × {self.out_features}"

    @property
    def is_stored(self) -> bool:
        """Whether the pair follows no recipe: its bytes are kept beside the adapters that use it."""
        return self.stream == STORED

    @property
    def size_bytes(self) -> int:
        """Bytes of the pair in float32, and of its file when it is stored."""
        return 4 * self.rank * (self.in_features + self.out_features)

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def rebuild(
    recipe: ProjectionRecipe, *, budget_bytes: int = DEFAULT_BUDGET_BYTES, source: PairSource | None = None
) -> Projection:
    """The pair (A, B) that `recipe` describes. Deterministic and the same on every machine.

    A stored pair is read from `source`, which nothing else needs; whether it is the right one, `prove`
    tells. Raises AdapterTooLarge, before allocating anything, when the pair exceeds `budget_bytes`,
    and ProjectionMissing for a stored pair without a source.
    """
    check_budget(recipe, budget_bytes)
    if recipe.is_stored:
        return _read_stored(recipe, source)
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


def prove(
    recipe: ProjectionRecipe,
    digest: str,
    *,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    source: PairSource | None = None,
) -> Projection:
    """The pair of `recipe`, proven to be the one `digest` names: what was hashed is what is returned.

    Raises ProjectionMismatch with both digests when it is another one, and as `rebuild` does.
    """
    if recipe.is_stored and source is None:
        raise missing_pair(recipe, digest)
    pair = rebuild(recipe, budget_bytes=budget_bytes, source=source)
    check_digest(recipe, digest, digest_of(pair))
    return pair


def check_file(recipe: ProjectionRecipe, digest: str, path: Path) -> None:
    """Raises ProjectionMismatch unless the file `path` is the stored pair that `digest` names, and ArchiveError
    for what is no plain file. Reads it once and holds none of it."""
    check_digest(recipe, digest, stored.digest_of_file(path, recipe.size_bytes))


def missing_pair(recipe: ProjectionRecipe, digest: str) -> ProjectionMissing:
    return ProjectionMissing(
        f"The matrices of this adapter follow no recipe: they are the file {digest} of {recipe.size_bytes:,} bytes, which "
        f"is not here. Fetch the adapter from its hub with `vera-hub pull`, which puts it beside the adapter as "
        f"{stored.PROJECTION_FILE}.",
        digest=digest,
        size_bytes=recipe.size_bytes,
    )


def digest_of(pair: Projection, *, rounding: str = "float32") -> str:
    """`sha256:…` over the little-endian float32 bytes of A, then B, row-major, rounded to `rounding` on the way."""
    hasher = hashlib.sha256()
    for run in canonical_bytes(pair, rounding=rounding):
        hasher.update(run)
    return f"sha256:{hasher.hexdigest()}"


def canonical_bytes(pair: Projection, *, rounding: str = "float32") -> Iterator[memoryview]:
    """The little-endian float32 bytes of A, then B, row-major, in runs: the content of a stored pair's file."""
    import numpy as np

    for matrix in pair:
        flat = np.ascontiguousarray(matrix, dtype=np.float32).reshape(-1)
        for start in range(0, flat.size, _RUN):
            run = round_to(flat[start : start + _RUN], rounding)
            yield np.ascontiguousarray(run, dtype="<f4").data.cast("B")


def bytes_of_pair(source: PairSource) -> Iterator[memoryview]:
    """The bytes of a stored pair, in runs, wherever it is. Nothing is checked but that a file is a plain one."""
    return stored.runs_of_file(source) if isinstance(source, Path) else canonical_bytes(source)


def round_to(values: NDArray[np.float32], rounding: str) -> NDArray[np.float32]:
    """`values` rounded to nearest even in `rounding`, as float32."""
    if rounding == "bfloat16":
        return round_to_bfloat16(values)
    if rounding == "float16":
        return values.astype("float16").astype("float32")
    return values


def round_to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values` rounded to nearest even in bfloat16, as float32: NumPy has no bfloat16.

    A NaN stays one: the carry of the rounding would turn 0x7FFFFFFF, CUDA's NaN, into -0.0.
    """
    import numpy as np

    bits = np.ascontiguousarray(values).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), np.float32(np.nan), rounded.view(np.float32))


def _draw_peft_mt19937(recipe: ProjectionRecipe) -> Projection:
    from vera.streams import PeftMt19937, kaiming_bound

    draw = PeftMt19937(_seed(recipe)).uniform  # one stream: A first, then B
    a = draw((recipe.rank, recipe.in_features), kaiming_bound(recipe.in_features))
    b = draw((recipe.out_features, recipe.rank), kaiming_bound(recipe.rank))
    return Projection(a, b)


def _draw_philox(recipe: ProjectionRecipe) -> Projection:
    from vera.streams import MATRIX_A, MATRIX_B, Philox4x32, kaiming_bound

    draw = Philox4x32(_seed(recipe)).uniform
    a = draw(MATRIX_A, (recipe.rank, recipe.in_features), kaiming_bound(recipe.in_features))
    b = draw(MATRIX_B, (recipe.out_features, recipe.rank), kaiming_bound(recipe.rank))
    return Projection(a, b)


def _seed(recipe: ProjectionRecipe) -> int:
    assert recipe.seed is not None  # a stored pair is never drawn
    return recipe.seed


_DRAWS = {PEFT_MT19937: _draw_peft_mt19937, PHILOX: _draw_philox}


def _round_in_place(matrix: NDArray[np.float32], rounding: str) -> None:
    flat = matrix.reshape(-1)
    for start in range(0, flat.size, _RUN):
        flat[start : start + _RUN] = round_to(flat[start : start + _RUN], rounding)


def _read_stored(recipe: ProjectionRecipe, source: PairSource | None) -> Projection:
    shapes = (recipe.rank, recipe.in_features), (recipe.out_features, recipe.rank)
    if source is None:
        raise ProjectionMissing("A stored pair cannot be drawn from its recipe: say where its bytes are.")
    pair = Projection(*stored.read_matrices(source, shapes)) if isinstance(source, Path) else source
    if (pair.A.shape, pair.B.shape) != shapes:
        raise ProjectionMismatch(
            f"The matrices are {pair.A.shape} and {pair.B.shape}, and the recipe says {shapes[0]} and {shapes[1]}."
        )
    for matrix in pair:
        stored.check_values(matrix)
    return pair


def check_digest(recipe: ProjectionRecipe, expected: str, got: str) -> None:
    if got == expected:
        return
    if recipe.is_stored:
        raise ProjectionMismatch(
            f"The stored matrices are {got}, and the adapter was trained with {expected}: the file was changed or "
            "damaged. Remove it, and fetch the adapter again from its hub.",
            expected=expected,
            got=got,
        )
    raise ProjectionMismatch(
        f"The recipe (seed {recipe.seed}, rank {recipe.rank}, {recipe.in_features} x {recipe.out_features}, "
        f"{recipe.stream}) rebuilds the projection {got}, but the adapter was trained with {expected}. "
        "The recipe in its manifest was changed after training: ask its author for the original.",
        expected=expected,
        got=got,
    )


def _check_nothing_is_drawn(recipe: ProjectionRecipe) -> None:
    if recipe.seed is not None:
        raise RecipeError(
            "A stored pair is not drawn, so its seed must be null.", code="SEED_INVALID", got=repr(recipe.seed)[:40]
        )
    if recipe.rounding != "float32":
        raise RecipeError("The bytes of a stored pair are what they are: its rounding must be float32.")


def _check_int(name: str, value: object, low: int, high: int, code: str) -> None:
    if type(value) is not int or not low <= value <= high:
        raise RecipeError(
            f"{name} must be an integer from {low} to {high}, and is {repr(value)[:40]}.",
            code=code,
            field=name,
            got=repr(value)[:40],
        )
