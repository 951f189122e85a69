"""`peft-mt19937/1` is the same bits on every machine, and the bits PEFT draws."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vera import golden, mt19937
from vera.projection import ProjectionRecipe, digest_of, rebuild
from vera.streams import PEFT_MT19937, PeftMt19937, kaiming_bound

SEEDS = st.integers(0, 2**53 - 1)
SHAPES = [(1, 1), (8, 12), (3, 1000), (256, 768)]


@pytest.mark.parametrize(
    "pair", golden.load("peft-mt19937-1")["pairs"], ids=lambda pair: str(list(pair["recipe"].values())[1:])
)
def test_a_recipe_gives_the_published_bits(pair: dict[str, Any]) -> None:
    rebuilt = rebuild(ProjectionRecipe(**pair["recipe"]))

    for name, matrix in zip("AB", rebuilt, strict=True):
        bits = golden.bits_of(matrix)
        assert bits[: len(pair[f"{name}_first"])] == pair[f"{name}_first"]
        assert bits[-1] == pair[f"{name}_last"]
    assert digest_of(rebuilt) == pair["digest"]


@pytest.mark.parametrize("seed", [0, 1, 5489, 2**32 - 1])
def test_the_published_definition_followed_to_the_letter_gives_the_same_values(seed: int) -> None:
    bound = kaiming_bound(12)

    drawn = PeftMt19937(seed).uniform((100, 20), bound)

    assert drawn.reshape(-1).tolist() == mt19937.uniform(mt19937.words(seed), 2000, float(bound))


def test_the_reference_generator_is_mersenne_twister() -> None:
    """The C++ standard documents std::mt19937 by its 10,000th output for the default seed, 5489."""
    outputs = list(islice(mt19937.words(5489), 10_000))
    assert outputs[:3] == [3499211612, 581869302, 3890346734]
    assert outputs[-1] == 4123659995


@given(seed=SEEDS)
def test_seeds_count_modulo_two_to_the_32(seed: int) -> None:
    ours = PeftMt19937(seed).uniform((2, 8), np.float32(1))
    wrapped = PeftMt19937(seed % 2**32).uniform((2, 8), np.float32(1))
    assert np.array_equal(ours, wrapped)


@given(seed=SEEDS, rows=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_a_stream_does_not_depend_on_how_it_is_cut(seed: int, rows: list[int]) -> None:
    bound, stream = np.float32(0.5), PeftMt19937(seed)

    in_pieces = np.concatenate([stream.uniform((n, 7), bound) for n in rows])

    assert np.array_equal(in_pieces, PeftMt19937(seed).uniform((sum(rows), 7), bound))


def test_a_matrix_larger_than_a_run_continues_the_stream() -> None:
    whole = PeftMt19937(3).uniform((3, 70_000), np.float32(1))
    stream = PeftMt19937(3)
    by_row = np.concatenate([stream.uniform((1, 70_000), np.float32(1)) for _ in range(3)])
    assert np.array_equal(whole, by_row)


@given(seed=SEEDS, fan_in=st.integers(1, 1 << 20))
def test_values_lie_within_the_bound(seed: int, fan_in: int) -> None:
    bound = kaiming_bound(fan_in)
    values = PeftMt19937(seed).uniform((4, 64), bound)
    assert values.dtype == np.float32
    assert (np.abs(values) <= bound).all()


def test_nothing_global_is_drawn_from() -> None:
    np.random.seed(1)  # the global generator is the subject
    before = np.random.get_state()[1].tolist()
    PeftMt19937(9).uniform((4, 4), np.float32(1))
    assert np.random.get_state()[1].tolist() == before


def test_the_bound_is_the_one_torch_computes_for_every_layer_width() -> None:
    """PEFT writes √3·(√2/√fan_in), torch rounds it to float32: the same float32 as √(6/fan_in)."""
    fans = [*range(1, 20_000), *(1 << k for k in range(21)), *range(4096, 1 << 20, 4096)]
    assert all(kaiming_bound(n) == np.float32(math.sqrt(3.0) * (math.sqrt(2.0) / math.sqrt(n))) for n in fans)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("seed", [0, 42, 2**32 + 5])
def test_the_stream_is_what_torch_draws_here(seed: int, shape: tuple[int, int]) -> None:
    from tests.vera import torch_draw

    ours = rebuild(ProjectionRecipe(PEFT_MT19937, seed, *shape, out_features=11))
    theirs = torch_draw.pair(seed, *shape, out_features=11)

    for mine, drawn in zip(ours, theirs, strict=True):
        if torch_draw.fuses_multiply_add():
            assert np.array_equal(mine, drawn)
        else:
            assert np.abs(mine - drawn).max() <= np.spacing(kaiming_bound(mine.shape[1]))


def test_without_fused_multiply_add_torch_is_at_most_one_unit_of_the_bound_away(tmp_path: Path) -> None:
    """torch's portable kernels round k·2^-24·(hi - lo) before they add lo; the AVX ones round once.

    Where the two cancel, near zero, one unit in the last place of the bound is many of the value.
    """
    script = (
        "import sys, numpy\n"
        "from tests.vera.torch_draw import pair\n"
        "a, b = pair(42, 64, 385, 1536)\n"
        "numpy.savez(sys.argv[1], A=a, B=b)\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "pair.npz")],
        check=True,
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default"},
    )
    ours = rebuild(ProjectionRecipe(PEFT_MT19937, 42, 64, 385, 1536))

    with np.load(tmp_path / "pair.npz") as portable:
        for name, mine in ours._asdict().items():
            difference = np.abs(mine - portable[name])
            assert difference.max() <= np.spacing(kaiming_bound(mine.shape[1]))
