from __future__ import annotations

import numpy as np
import pytest
import torch

from vera.nn.uploading import copy_arrays, upload

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]
ARRAYS = [np.arange(size, dtype=np.float32) for size in (5, 1, 6)]


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_arrive_as_they_were_side_by_side(device: str) -> None:
    tensors = upload(ARRAYS, torch.device(device))

    for tensor, array in zip(tensors, ARRAYS, strict=True):
        assert tensor.device.type == device
        np.testing.assert_array_equal(tensor.cpu().numpy(), array)
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1


@pytest.mark.parametrize("device", DEVICES)
def test_an_array_is_not_the_tensor(device: str) -> None:
    array = np.ones(3, np.float32)
    (tensor,) = upload([array], torch.device(device))

    tensor.zero_()

    assert array.all()


def test_a_write_to_one_is_no_write_to_another() -> None:
    first, second, _ = upload(ARRAYS, torch.device("cpu"))
    before = second._version

    first.add_(1)

    assert second._version == before
    np.testing.assert_array_equal(second.numpy(), ARRAYS[1])


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_are_copied_into_tensors_where_they_lie(device: str) -> None:
    tensors = [torch.zeros(array.shape, device=device) for array in ARRAYS]
    addresses = [tensor.data_ptr() for tensor in tensors]

    copy_arrays(tensors, ARRAYS)

    assert [tensor.data_ptr() for tensor in tensors] == addresses
    for tensor, array in zip(tensors, ARRAYS, strict=True):
        np.testing.assert_array_equal(tensor.cpu().numpy(), array)


def test_nothing_is_uploaded_as_nothing() -> None:
    assert upload([], torch.device("cpu")) == []
    copy_arrays([], [])


def test_a_copy_is_counted_as_a_write() -> None:
    """What is kept for an unchanged vector, as DVoRA's norms are, must not outlive the vector."""
    (tensor,) = upload([ARRAYS[0]], torch.device("cpu"))
    before = tensor._version

    copy_arrays([tensor], [ARRAYS[0]])

    assert tensor._version > before
