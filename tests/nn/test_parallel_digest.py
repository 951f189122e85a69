"""Live tensors have the digest of their bytes, on every device there is."""

from __future__ import annotations

import pytest
import torch

from tests.nn.small_models import normal
from vera.nn.parallel_digest import _RUN, digests_of
from vera.parallel_digest import digest_of_bytes

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


def bytes_of(tensor: torch.Tensor) -> bytes:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int8])
def test_a_tensor_has_the_digest_of_its_bytes(dtype: torch.dtype, device: str) -> None:
    tensors = [(normal(*shape, seed=1) * 50).to(device, dtype) for shape in [(3, 5), (7,), (4, 8), (1, 1), (0,)]]
    assert digests_of(tensors) == [digest_of_bytes(bytes_of(tensor)) for tensor in tensors]
    for gamma in (1, (1 << 64) - 1):
        assert digests_of(tensors, gamma) == [digest_of_bytes(bytes_of(tensor), gamma) for tensor in tensors]


@pytest.mark.parametrize("device", DEVICES)
def test_a_part_of_a_tensor_is_read_row_by_row(device: str) -> None:
    whole = normal(9, 8).to(device, torch.bfloat16)
    parts = [whole.T, whole[:, 1:4], whole.reshape(-1)[1:], whole[3]]
    assert digests_of(parts) == [digest_of_bytes(bytes_of(part)) for part in parts]


@pytest.mark.parametrize("device", DEVICES)
def test_a_tensor_longer_than_a_run_is_counted_on(device: str) -> None:
    tensor = torch.arange(2 * _RUN + 3, device=device, dtype=torch.float32)
    assert digests_of([tensor, tensor[:5]]) == [
        digest_of_bytes(bytes_of(tensor)),
        digest_of_bytes(bytes_of(tensor[:5])),
    ]


def test_a_trained_parameter_can_be_digested() -> None:
    parameter = torch.nn.Parameter(normal(4))
    assert digests_of([parameter]) == [digest_of_bytes(bytes_of(parameter.detach()))]
