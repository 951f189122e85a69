"""The digest that a GPU computes: known answers, any cut of the bytes, and what it tells apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vera import golden, splitmix
from vera.parallel_digest import _RUN, ParallelDigest, digest_of_bytes

# The first outputs of SplitMix64 for the seeds 0 and 1234567, as its public implementations print them.
OUTPUTS = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
    1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423],
}


@pytest.mark.parametrize("seed", OUTPUTS)
def test_words_that_are_all_one_seed_give_the_sum_of_its_outputs(seed: int) -> None:
    data = seed.to_bytes(8, "little") * 3
    assert digest_of_bytes(data) == f"{sum(OUTPUTS[seed]) % 2**64:016x}"


def test_the_golden_digests() -> None:
    for case in golden.load("splitmix64-sum-1"):
        assert digest_of_bytes(bytes.fromhex(case["bytes"]) * case["times"]) == case["digest"]


@given(st.binary(max_size=100))
def test_it_is_what_the_specification_says(data: bytes) -> None:
    assert digest_of_bytes(data) == splitmix.digest(data)


@given(st.lists(st.binary(max_size=30), max_size=8))
def test_it_does_not_matter_how_the_bytes_are_cut(pieces: list[bytes]) -> None:
    digest = ParallelDigest()
    for piece in pieces:
        digest.update(piece)
    assert digest.hexdigest() == digest_of_bytes(b"".join(pieces))


def test_bytes_longer_than_a_run_are_counted_on() -> None:
    data = np.random.default_rng(0).bytes(8 * _RUN + 21)
    assert digest_of_bytes(data) == splitmix.digest(data)


@given(st.binary(min_size=16, max_size=64), st.data())
def test_a_flipped_bit_and_two_flipped_signs_are_seen(data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    assert digest_of_bytes(flipped) != digest_of_bytes(data)
    signs = bytearray(data)
    signs[7] ^= 0x80  # what a sum of words times odd numbers would not see
    signs[15] ^= 0x80
    assert digest_of_bytes(signs) != digest_of_bytes(data)


def test_words_in_another_order_are_another_tensor() -> None:
    assert digest_of_bytes(b"a" * 8 + b"b" * 8) != digest_of_bytes(b"b" * 8 + b"a" * 8)
