"""From a recipe to a proven pair: valid recipes, bounded memory, exact rounding, honest digests."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from vera.errors import AdapterTooLarge, ProjectionMismatch, RecipeError
from vera.projection import (
    MAX_FEATURES,
    MAX_RANK,
    MAX_SEED,
    PEFT_MT19937,
    PHILOX,
    STREAMS,
    Projection,
    ProjectionRecipe,
    digest_of,
    prove,
    rebuild,
    round_to,
    round_to_bfloat16,
)

RECIPE = ProjectionRecipe(PEFT_MT19937, seed=7, rank=4, in_features=32, out_features=64)
DIGEST = "sha256:6a091142afb52fc2cf56f75fc2e3fd858373e09038d0b115d0e76c8ca4abdfcb"  # of tests/golden
WIDEST = ProjectionRecipe(PEFT_MT19937, MAX_SEED, MAX_RANK, MAX_FEATURES, MAX_FEATURES)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_rebuilt_pair_is_read_only_float32_in_row_major_order(stream: str) -> None:
    pair = rebuild(dataclasses.replace(RECIPE, stream=stream))

    assert pair.A.shape == (4, 32)
    assert pair.B.shape == (64, 4)
    for matrix in pair:
        assert matrix.dtype == np.float32
        assert matrix.flags.c_contiguous
        assert not matrix.flags.writeable


def test_the_digest_is_sha256_over_the_bytes_of_a_then_b() -> None:
    pair = rebuild(RECIPE)
    data = pair.A.astype("<f4").tobytes() + pair.B.astype("<f4").tobytes()
    assert digest_of(pair) == f"sha256:{hashlib.sha256(data).hexdigest()}" == DIGEST


def test_the_digest_is_of_values_and_not_of_their_layout_in_memory() -> None:
    pair = rebuild(RECIPE)
    assert digest_of(Projection(np.asfortranarray(pair.A), pair.B.astype(">f4"))) == DIGEST


def test_a_proven_pair_is_the_rebuilt_one() -> None:
    proven, rebuilt = prove(RECIPE, DIGEST), rebuild(RECIPE)
    assert np.array_equal(proven.A, rebuilt.A)
    assert np.array_equal(proven.B, rebuilt.B)


@pytest.mark.parametrize(
    "edit",
    [
        {"stream": PHILOX},
        {"seed": 8},
        {"rank": 5},
        {"in_features": 33},
        {"out_features": 65},
        {"rounding": "bfloat16"},
        {"rounding": "float16"},
    ],
    ids=str,
)
def test_an_edited_recipe_is_refused_with_both_digests(edit: dict[str, object]) -> None:
    edited = dataclasses.replace(RECIPE, **edit)  # type: ignore[arg-type]  # one field of several types

    with pytest.raises(ProjectionMismatch) as refused:
        prove(edited, DIGEST)

    assert refused.value.facts == {"expected": DIGEST, "got": digest_of(rebuild(edited))}
    assert DIGEST in str(refused.value)
    assert digest_of(rebuild(edited)) in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("stream", "philox4x32-10/2", "STREAM_UNKNOWN"),
        ("stream", "", "STREAM_UNKNOWN"),
        ("stream", None, "STREAM_UNKNOWN"),
        ("stream", ["peft-mt19937/1"], "STREAM_UNKNOWN"),
        ("rounding", "float64", "RECIPE_INVALID"),
        ("rounding", None, "RECIPE_INVALID"),
        ("rounding", {"float32": 1}, "RECIPE_INVALID"),
        *[("seed", value, "SEED_INVALID") for value in (-1, 2**53, 2**64, 1.0, "1", True, None, np.int64(1))],
        *[("rank", value, "RANK_INVALID") for value in (0, -1, 4097, 10**6, 8.0, True)],
        *[("in_features", value, "DIMS_INVALID") for value in (0, -1, 2**20 + 1, "12", 1.5)],
        *[("out_features", value, "DIMS_INVALID") for value in (0, -1, 2**20 + 1, None, False)],
    ],
)
def test_a_recipe_that_cannot_be_followed_is_never_made(field: str, value: object, code: str) -> None:
    with pytest.raises(RecipeError) as refused:
        dataclasses.replace(RECIPE, **{field: value})  # type: ignore[arg-type]  # wrong on purpose
    assert refused.value.code == code
    assert field in str(refused.value)


@pytest.mark.parametrize("field", ["stream", "rounding", "seed"])
def test_a_refusal_does_not_repeat_a_megabyte_of_nonsense(field: str) -> None:
    with pytest.raises(RecipeError) as refused:
        dataclasses.replace(RECIPE, **{field: "\x1b[2J" * 250_000})  # type: ignore[arg-type]  # wrong on purpose
    assert len(str(refused.value)) < 400
    assert "\x1b" not in str(refused.value)


def test_a_pair_beyond_the_budget_is_refused_before_anything_is_allocated() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(AdapterTooLarge) as refused:
            rebuild(WIDEST)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert refused.value.facts == {"needed_bytes": 4 * 4096 * 2 * 2**20, "budget_bytes": 2**30}
    assert peak < 1 << 20


def test_an_absurd_recipe_is_a_clean_error_in_a_small_address_space() -> None:
    script = (
        "import resource\n"
        "from vera.errors import AdapterTooLarge\n"
        "from tests.vera.test_projection import WIDEST, rebuild\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1536 << 20, 1536 << 20))\n"
        "try:\n"
        "    rebuild(WIDEST)\n"
        "except AdapterTooLarge as error:\n"
        "    print(error.code)\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout == "ADAPTER_TOO_LARGE\n"


def test_a_philox_pair_is_proven_and_an_edited_one_refused() -> None:
    recipe = ProjectionRecipe(PHILOX, 7, 4, 32, 64)
    digest = "sha256:2d27b4695f222c3af09c578a4d8dbe5e885df4a899ac3316ac0e4481a1ed3ac1"  # of tests/golden

    assert np.array_equal(prove(recipe, digest).A, rebuild(recipe).A)
    with pytest.raises(ProjectionMismatch):
        prove(dataclasses.replace(recipe, seed=7 + (1 << 32)), digest)


def test_the_budget_is_the_largest_pair_allowed() -> None:
    assert RECIPE.size_bytes == 4 * 4 * (32 + 64)
    rebuild(RECIPE, budget_bytes=RECIPE.size_bytes)
    with pytest.raises(AdapterTooLarge):
        rebuild(RECIPE, budget_bytes=RECIPE.size_bytes - 1)
    with pytest.raises(AdapterTooLarge):
        prove(RECIPE, DIGEST, budget_bytes=RECIPE.size_bytes - 1)


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("rounding", ["float32", "bfloat16", "float16"])
def test_rebuilding_and_proving_hold_the_pair_once(rounding: str, stream: str) -> None:
    recipe = ProjectionRecipe(stream, 0, 512, 8192, 8192, rounding)  # 32 MiB
    tracemalloc.start()
    try:
        digest_of(rebuild(recipe))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < recipe.size_bytes + (8 << 20)  # the runs that are drawn, rounded and hashed


def test_bfloat16_and_float16_rounding_are_those_of_torch() -> None:
    import torch

    words = np.random.Generator(np.random.PCG64(0)).integers(0, 1 << 32, size=200_000, dtype=np.uint32)
    halfway = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x00000001, 0x7F7FFFFF, 0x80000000], np.uint32)
    values = np.concatenate([words, halfway]).view(np.float32)
    for rounding, dtype in (("bfloat16", torch.bfloat16), ("float16", torch.float16)):
        with np.errstate(over="ignore"):  # beyond float16's range both give infinity
            ours = round_to(values, rounding)
        theirs = torch.from_numpy(values.copy()).to(dtype).float().numpy()
        assert np.array_equal(ours, theirs, equal_nan=True)
    assert round_to(values, "float32") is values


@pytest.mark.parametrize("word", [0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0x7FC00000])
def test_no_nan_is_rounded_into_a_number(word: int) -> None:
    """0x7FFFFFFF is the NaN that CUDA writes: a carry would make it -0.0."""
    assert np.isnan(round_to_bfloat16(np.array([word], np.uint32).view(np.float32))).all()
