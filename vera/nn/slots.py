"""One adapter as live tensors: its vectors onto the devices of the modules, into their deltas, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vera.archive import Vectors
from vera.nn.dvora import DvoraDelta
from vera.nn.layer import Delta, VeraDelta
from vera.nn.own_heads import OwnHead
from vera.nn.uploading import copy_arrays, upload


@dataclass
class Slot:
    """One adapter in the bank: a delta per adapted module, the head it has in the model, and whatever its owner
    wants to keep with it."""

    deltas: dict[str, Delta]
    label: Any = None
    heads: dict[str, OwnHead] = field(default_factory=dict)  # of the model's own modules, which go with the adapter


def fill(slot: Slot, vectors: Vectors) -> None:
    """Copy trained `vectors` into the deltas of `slot`, in place."""
    filled = [
        (getattr(slot.deltas[name], kind), array)
        for name, arrays in _by_module(vectors).items()
        for kind, array in arrays.items()
    ]
    copy_arrays([live for live, _ in filled], [array for _, array in filled])


def holds(slot: Slot, vectors: Vectors) -> bool:
    """Whether the deltas of `slot` are these `vectors`, to the number. One comparison for each device."""
    live = {name: dict(delta.named_parameters()) for name, delta in slot.deltas.items()}
    arrays = _by_module(vectors)
    if {name: set(kinds) for name, kinds in live.items()} != {name: set(kinds) for name, kinds in arrays.items()}:
        return False
    pairs = [(live[name][kind].detach(), array) for name, kinds in arrays.items() for kind, array in kinds.items()]
    for device in {tensor.device for tensor, _ in pairs}:
        there = [(tensor, array) for tensor, array in pairs if tensor.device == device]
        expected = upload([array for _, array in there], device)
        if not torch.equal(torch.cat([tensor for tensor, _ in there]), torch.cat(expected)):
            return False
    return True


def read(slot: Slot) -> Vectors:
    """The vectors of `slot` as float32 arrays by module name, without a head."""
    deltas = {name: delta for name, delta in slot.deltas.items() if isinstance(delta, VeraDelta)}
    return Vectors(
        lambda_b={name: _array(delta.lambda_b) for name, delta in deltas.items()},
        lambda_d={name: _array(delta.lambda_d) for name, delta in deltas.items()},
        head={},
        magnitude={name: _array(delta.magnitude) for name, delta in deltas.items() if isinstance(delta, DvoraDelta)},
    )


def placed(vectors: Vectors, devices: Mapping[str, torch.device]) -> dict[str, dict[str, Tensor]]:
    """The vectors of each module on its device."""
    arrays = [(module, kind, array) for module, kinds in _by_module(vectors).items() for kind, array in kinds.items()]
    placed: dict[str, dict[str, Tensor]] = {module: {} for module in devices}
    for device in set(devices.values()):
        there = [part for part in arrays if devices[part[0]] == device]
        tensors = upload([array for _, _, array in there], device)
        for (module, kind, _), tensor in zip(there, tensors, strict=True):
            placed[module][kind] = tensor
    return placed


def _by_module(vectors: Vectors) -> dict[str, dict[str, NDArray[np.float32]]]:
    """The vectors of each module, by the names its delta has for them."""
    kinds = {"lambda_d": vectors.lambda_d, "lambda_b": vectors.lambda_b, "magnitude": vectors.magnitude}
    return {
        module: {kind: arrays[module] for kind, arrays in kinds.items() if module in arrays}
        for module in vectors.lambda_b
    }


def _array(parameter: Tensor) -> Any:
    return parameter.detach().float().cpu().numpy()
