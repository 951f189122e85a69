"""Many vectors onto a device at once: a transfer for each would take longer than its bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = Sequence[NDArray[np.float32]]  # of one dimension


def upload(arrays: Arrays, device: torch.device) -> list[Tensor]:
    """`arrays` on `device` in one transfer, float32. They lie side by side, and each counts its own writes."""
    return [part.data for part in _parts(arrays, device)]


@torch.no_grad()
def copy_arrays(tensors: Sequence[Tensor], arrays: Arrays) -> None:
    """Copy array i into tensor i, in place, in one transfer to each device."""
    for device in {tensor.device for tensor in tensors}:
        there = [at for at, tensor in enumerate(tensors) if tensor.device == device]
        torch._foreach_copy_([tensors[at] for at in there], _parts([arrays[at] for at in there], device))


def _parts(arrays: Arrays, device: torch.device) -> tuple[Tensor, ...]:
    """Views of one tensor, which count each other's writes as their own."""
    flat = torch.empty(sum(map(len, arrays)), dtype=torch.float32, pin_memory=device.type == "cuda")
    if arrays:
        np.concatenate(arrays, out=flat.numpy())
    return tuple(torch.split(flat.to(device, non_blocking=True), [*map(len, arrays)]))
