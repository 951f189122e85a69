"""The Triton kernels against their equals: on a GPU, or in Triton's interpreter on a CPU (TRITON_INTERPRET=1)."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vera import splitmix as reference
from vera.parallel_digest import GAMMA, to_hex
from vera.projection import ROUNDINGS, round_to
from vera.streams import MATRIX_A, MATRIX_B, Philox4x32, kaiming_bound

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no GPU, and TRITON_INTERPRET is not 1", allow_module_level=True)
pytest.importorskip("triton")

from vera.nn.kernels import philox, splitmix  # noqa: E402  # after it is known to be there


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    matrix=st.sampled_from([MATRIX_A, MATRIX_B]),
    shape=st.tuples(st.integers(0, 9), st.integers(0, 600)),
    at=st.tuples(st.integers(0, 2**20), st.integers(0, 2**20)),
    fan_in=st.integers(1, 1 << 20),
    rounding=st.sampled_from(ROUNDINGS),
)
def test_a_drawn_part_has_the_bits_of_numpy_in_every_dtype(
    seed: int, matrix: int, shape: tuple[int, int], at: tuple[int, int], fan_in: int, rounding: str
) -> None:
    bound, rounded = kaiming_bound(fan_in), getattr(torch, rounding)
    expected = round_to(Philox4x32(seed).uniform(matrix, shape, bound, at=at), rounding)
    for dtype in {torch.float32, rounded}:
        values = torch.full(shape, float("nan"), dtype=dtype, device=DEVICE)
        philox.draw(values, seed, matrix, bound, at=at, rounding=rounded)
        assert np.array_equal(values.float().cpu().numpy(), expected)


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(0, 70_000), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
    gamma=st.sampled_from([GAMMA, 1, 2**64 - 1]) | st.integers(0, 2**63 - 1).map(lambda n: 2 * n + 1),
)
def test_the_sums_of_words_are_those_of_the_specification(counts: list[int], seed: int, gamma: int) -> None:
    rng = np.random.default_rng(seed)
    tensors = [rng.integers(0, 1 << 64, count, dtype=np.uint64) for count in counts]
    sums = splitmix.sums_of_words([torch.from_numpy(words.view(np.int64)).to(DEVICE) for words in tensors], gamma)
    assert [to_hex(total) for total in sums.tolist()] == [reference.digest(words.tobytes(), gamma) for words in tensors]
