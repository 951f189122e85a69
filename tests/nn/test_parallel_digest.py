"""Live tensors have the digest of their bytes, on every device there is: known answers, and what it tells apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.nn.small_models import normal
from tests.vera import golden, splitmix
from vera.nn.parallel_digest import _RUN, digests_of

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
# The first outputs of SplitMix64 for the seeds 0 and 1234567, as its public implementations print them.
OUTPUTS = {
    0: [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F],
    1234567: [6457827717110365317, 3203168211198807973, 9817491932198370423],
}


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def digest_of(data: bytes, device: str = "cpu") -> str:
    (digest,) = digests_of([torch.tensor(list(data), dtype=torch.uint8, device=device)])
    return digest


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", OUTPUTS)
def test_words_that_are_all_one_seed_give_the_sum_of_its_outputs(seed: int, device: str) -> None:
    data = seed.to_bytes(8, "little") * 3
    assert digest_of(data, device) == f"{sum(OUTPUTS[seed]) % 2**64:016x}"


@pytest.mark.parametrize("device", DEVICES)
def test_the_golden_digests(device: str) -> None:
    for case in golden.load("splitmix64-sum-1"):
        assert digest_of(bytes.fromhex(case["bytes"]) * case["times"], device) == case["digest"]


@given(st.binary(max_size=100))
def test_it_is_what_the_specification_says(data: bytes) -> None:
    assert digest_of(data) == splitmix.digest(data)


@given(st.binary(min_size=16, max_size=64), st.data())
def test_a_flipped_bit_and_two_flipped_signs_are_seen(data: bytes, draw: st.DataObject) -> None:
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    assert digest_of(flipped) != digest_of(data)
    signs = bytearray(data)
    signs[7] ^= 0x80  # what a sum of words times odd numbers would not see
    signs[15] ^= 0x80
    assert digest_of(signs) != digest_of(data)


def test_words_in_another_order_are_another_tensor() -> None:
    assert digest_of(b"a" * 8 + b"b" * 8) != digest_of(b"b" * 8 + b"a" * 8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_a_tensor_has_the_digest_of_its_bytes(dtype: torch.dtype, device: str) -> None:
    tensors = [(normal(*shape, seed=1) * 50).to(device, dtype) for shape in [(3, 5), (7,), (4, 8), (1, 1), (0,)]]
    assert digests_of(tensors) == [splitmix.digest(bytes_of(tensor)) for tensor in tensors]
    for gamma in (1, (1 << 64) - 1):
        assert digests_of(tensors, gamma) == [splitmix.digest(bytes_of(tensor), gamma) for tensor in tensors]


@pytest.mark.parametrize("device", DEVICES)
def test_a_part_of_a_tensor_is_read_row_by_row(device: str) -> None:
    whole = normal(9, 8).to(device, torch.bfloat16)
    parts = [whole.T, whole[:, 1:4], whole.reshape(-1)[1:], whole[3]]
    assert digests_of(parts) == [splitmix.digest(bytes_of(part)) for part in parts]


@pytest.mark.parametrize("device", DEVICES)
def test_a_tensor_longer_than_a_run_is_counted_on(device: str) -> None:
    """Words that take their γ away are all mixed alike, so the digest of any number of them is known."""
    count = 2 * _RUN + 3
    words = 5 - torch.arange(1, count + 1, device=device) * (splitmix.GAMMA - 2**64)
    expected = [f"{n * splitmix.mix(5) % 2**64:016x}" for n in (count, 7)]
    assert digests_of([words, words[:7]]) == expected


def test_a_trained_parameter_can_be_digested() -> None:
    parameter = torch.nn.Parameter(normal(4))
    assert digests_of([parameter]) == [splitmix.digest(bytes_of(parameter.detach()))]
