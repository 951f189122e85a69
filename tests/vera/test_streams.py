"""Both streams are the same bits on every machine; `peft-mt19937/1` is what PEFT draws, `philox4x32-10/1` any part of a whole."""

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

from tests.vera import golden, mt19937, philox
from vera.projection import PEFT_MT19937, PHILOX, Projection, ProjectionRecipe, digest_of, rebuild
from vera.streams import MATRIX_A, MATRIX_B, PeftMt19937, Philox4x32, kaiming_bound

SEEDS = st.integers(0, 2**53 - 1)
SHAPES = [(1, 1), (8, 12), (3, 1000), (256, 768)]
MATRICES = st.sampled_from([MATRIX_A, MATRIX_B])
PUBLISHED = golden.load("peft-mt19937-1")["pairs"] + golden.load("philox4x32-10-1")["pairs"]


@pytest.mark.parametrize("pair", PUBLISHED, ids=lambda pair: str(list(pair["recipe"].values())))
def test_a_recipe_gives_the_published_bits(pair: dict[str, Any]) -> None:
    rebuilt = rebuild(ProjectionRecipe(**pair["recipe"]))

    for name, matrix in zip("AB", rebuilt, strict=True):
        bits = golden.bits_of(matrix)
        assert bits[: len(pair[f"{name}_first"])] == pair[f"{name}_first"]
        assert bits[-1] == pair[f"{name}_last"]
    assert digest_of(rebuilt) == pair["digest"]


# -- peft-mt19937/1 -------------------------------------------------------------------------------


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


# -- philox4x32-10/1 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_reference_generator_is_philox(counter: philox.Words, key: tuple[int, int], words: str) -> None:
    """The known answers for philox4x32-10 in the `kat_vectors` of Random123."""
    assert " ".join(f"{word:08x}" for word in philox.philox4x32(counter, key)) == words


@given(
    seed=st.integers(0, 2**64 - 1),
    matrix=MATRICES,
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    at=st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)),
    fan_in=st.integers(1, 1 << 20),
)
def test_any_part_is_what_the_published_definition_says(
    seed: int, matrix: int, shape: tuple[int, int], at: tuple[int, int], fan_in: int
) -> None:
    bound = kaiming_bound(fan_in)

    drawn = Philox4x32(seed).uniform(matrix, shape, bound, at=at)

    assert drawn.dtype == np.float32
    assert drawn.flags.c_contiguous
    assert drawn.tolist() == philox.uniform(seed, matrix, shape, float(bound), at)


@given(
    seed=SEEDS,
    matrix=MATRICES,
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    corner=st.tuples(st.integers(0, 50), st.integers(0, 50)),
    cut=st.tuples(st.integers(0, 40), st.integers(0, 40)),
)
def test_a_matrix_does_not_depend_on_how_it_is_cut(
    seed: int, matrix: int, shape: tuple[int, int], corner: tuple[int, int], cut: tuple[int, int]
) -> None:
    def draw(top: int, bottom: int, left: int, right: int) -> np.ndarray:
        part = Philox4x32(seed).uniform(
            matrix, (bottom - top, right - left), np.float32(0.5), at=(corner[0] + top, corner[1] + left)
        )
        return part

    (height, width), row, column = shape, min(cut[0], shape[0]), min(cut[1], shape[1])
    quarters = [
        [draw(0, row, 0, column), draw(0, row, column, width)],
        [draw(row, height, 0, column), draw(row, height, column, width)],
    ]
    assert np.array_equal(np.block(quarters), draw(0, height, 0, width))


@pytest.mark.parametrize("shape", [(3, 140_003), (70_003, 5), (300, 1001), (2, 131_072), (32_769, 4)], ids=str)
def test_a_matrix_larger_than_a_tile_is_drawn_like_its_parts(shape: tuple[int, int]) -> None:
    """Tiles are 2^15 blocks of four columns, spread over threads; the parts are smaller than one."""
    bound, at = np.float32(0.5), (3, 2)
    whole = Philox4x32(11).uniform(MATRIX_B, shape, bound, at=at)

    for top in range(0, shape[0], 997):
        for left in range(0, shape[1], 4999):
            part = whole[top : top + 7, left : left + 4999]
            alone = Philox4x32(11).uniform(MATRIX_B, part.shape, bound, at=(at[0] + top, at[1] + left))
            assert np.array_equal(part, alone)
    assert np.array_equal(
        whole[-1:, -1:], Philox4x32(11).uniform(MATRIX_B, (1, 1), bound, at=(shape[0] + 2, shape[1] + 1))
    )


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0)], ids=str)
def test_an_empty_part_is_empty(shape: tuple[int, int]) -> None:
    assert Philox4x32(1).uniform(MATRIX_A, shape, np.float32(1), at=(1, 2)).shape == shape


@given(seed=SEEDS, fan_in=st.integers(1, 1 << 20))
def test_philox_values_lie_strictly_within_the_bound_and_are_never_zero(seed: int, fan_in: int) -> None:
    bound = kaiming_bound(fan_in)
    magnitudes = np.abs(Philox4x32(seed).uniform(MATRIX_A, (4, 64), bound))
    assert (magnitudes < bound).all()
    assert (magnitudes > 0).all()


def philox_pair(rank: int, in_features: int, out_features: int, seed: int = 5) -> Projection:
    return rebuild(ProjectionRecipe(PHILOX, seed, rank, in_features, out_features))


def test_ranks_nest_in_a() -> None:
    assert np.array_equal(philox_pair(64, 300, 1).A, philox_pair(256, 300, 1).A[:64])


def test_out_features_nest_in_b() -> None:
    assert np.array_equal(philox_pair(8, 1, 100).B, philox_pair(8, 1, 300).B[:100])


def test_the_width_is_a_scale_and_nothing_else() -> None:
    """√(6 / fan_in) of four times the width is half, exactly: what is left of the difference is nothing."""
    narrow, wide = philox_pair(64, 50, 20), philox_pair(256, 200, 20)
    assert np.array_equal(narrow.A, 2 * wide.A[:64, :50])
    assert np.array_equal(narrow.B, 2 * wide.B[:, :64])


def test_every_bit_of_a_seed_counts() -> None:
    first = {Philox4x32(1 << bit).uniform(MATRIX_A, (1, 4), np.float32(1)).tobytes() for bit in range(64)}
    assert len(first) == 64


# A fixed seed each, so these say the same every time; 5 standard deviations would be chance once in a million.
SAMPLE = (512, 2048)


def sample(seed: int = 2024, matrix: int = MATRIX_A) -> np.ndarray:
    return Philox4x32(seed).uniform(matrix, SAMPLE, np.float32(1)).astype(np.float64)


def test_mean_and_variance_are_those_of_the_uniform_distribution() -> None:
    values = sample()
    assert abs(values.mean()) * math.sqrt(values.size) < 5 * math.sqrt(1 / 3)
    # The squares have mean 1/3 and variance 1/5 - 1/9.
    assert abs(np.square(values).mean() - 1 / 3) * math.sqrt(values.size) < 5 * math.sqrt(4 / 45)


@pytest.mark.parametrize("shift", [16, 8, 0], ids=["high bits", "middle bits", "low bits"])
def test_every_byte_of_the_24_bits_is_uniform(shift: int) -> None:
    k = ((sample().reshape(-1) * 2**24 + 2**24 - 1) / 2).astype(np.int64)
    counts = np.bincount((k >> shift) & 255, minlength=256)
    expected = k.size / 256
    chi_square = float(np.square(counts - expected).sum() / expected)
    assert abs(chi_square - 255) < 5 * math.sqrt(2 * 255)


@pytest.mark.parametrize(
    "other",
    [
        np.roll(sample(), 1, axis=0),
        np.roll(sample(), 1, axis=1),
        np.roll(sample(), 4, axis=1),
        sample(matrix=MATRIX_B),
        sample(seed=2025),
        sample(seed=2024 + (1 << 32)),
    ],
    ids=["the next row", "the next column", "the next block", "the other matrix", "the next seed", "the high word"],
)
def test_nothing_correlates(other: np.ndarray) -> None:
    values = sample()
    assert abs((values * other).mean()) * 3 * math.sqrt(values.size) < 5
