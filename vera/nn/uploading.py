"""Many small arrays onto a device at once: a transfer for each would take longer than its bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Arrays = Sequence[NDArray[np.float32]]


def upload(arrays: Arrays, device: torch.device) -> list[Tensor]:
    """`arrays` on `device` in one transfer, float32. They lie side by side, and each counts its own writes."""
    flat = torch.empty(sum(array.size for array in arrays), dtype=torch.float32, pin_memory=device.type == "cuda")
    if arrays:
        np.concatenate([array.reshape(-1) for array in arrays], out=flat.numpy())
    parts = torch.split(flat.to(device, non_blocking=True), [array.size for array in arrays])
    return [part.data.view(array.shape) for part, array in zip(parts, arrays, strict=True)]


@torch.no_grad()
def copy_arrays(tensors: Sequence[Tensor], arrays: Arrays) -> None:
    """Copy array i into tensor i, in place, in one transfer to each device."""
    for device in {tensor.device for tensor in tensors}:
        there = [at for at, tensor in enumerate(tensors) if tensor.device == device]
        torch._foreach_copy_([tensors[at] for at in there], upload([arrays[at] for at in there], device))
