"""The tensors of a live model: which they are, where they lie, and whether one was written since."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vera.nn.offloading import kept_weight

# Numbers of each tensor that are compared when a model was proven before. A matrix that a merge left equal in all of
# them, by rounding, would have to be equal nearly everywhere.
_SAMPLED = 64
TRAINED_VECTORS = "vera_vectors"  # the module in which those of an adapter stand while they are parameters of the model
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of the model's state, tied ones under each of their names. Buffers that are computed
    and never saved, such as rotary frequencies, are not among them, nor are an adapter's vectors. One that is offloaded is
    where it is kept."""
    state = model.state_dict(keep_vars=True)
    live = {name: t for name, t in state.items() if isinstance(t, Tensor) and not _is_trained_vector(name)}
    for name, tensor in live.items():
        if tensor.device.type == "meta":
            parent, _, leaf = name.rpartition(".")
            kept = kept_weight(model.get_submodule(parent), leaf)
            live[name] = tensor if kept is None else kept
    return live


def _is_trained_vector(name: str) -> bool:
    return TRAINED_VECTORS in name and TRAINED_VECTORS in name.split(".")


def is_plain(tensor: Tensor) -> bool:
    """False for tensors of libraries, such as quantised or sharded ones: they are not the numbers they seem."""
    return type(tensor) in (Tensor, nn.Parameter)


def is_weight(tensor: Tensor) -> bool:
    return tensor.is_floating_point() or not is_plain(tensor)


def memory_of(tensor: Tensor) -> tuple[object, ...]:
    """Equal for two tensors if and only if they are the same numbers in the same memory."""
    if parts := _parts_of(tensor):
        return tuple(memory_of(part) for part in parts)
    if tensor.data_ptr() == 0:
        return (id(tensor),)
    return (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())


def _writes(tensor: Tensor) -> int:
    """How often it was written in place, as torch counts it."""
    own = 0 if tensor.is_inference() else tensor._version
    return own + sum(_writes(part) for part in _parts_of(tensor))


def _parts_of(tensor: Tensor) -> list[Tensor]:
    """The plain tensors that one of a library, such as torchao's integers and scales, is made of."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    return [getattr(tensor, name) for name in flatten()[0]] if flatten else []


def stamp_of(live: Mapping[str, Tensor]) -> int:
    """Changes whenever a tensor is replaced or written in place (torch counts writes in `_version`)."""
    return hash(tuple((name, memory_of(tensor), _writes(tensor), tensor.dtype) for name, tensor in live.items()))


def sample_of(live: Mapping[str, Tensor]) -> dict[object, Tensor]:
    """Some numbers of each tensor, their bits, by device and dtype.

    torch does not count what is written behind its back, through `.data` (as PEFT merges a LoRA, and as norms are rescaled to
    quantise what follows them) or a NumPy view. Such a write changes a whole tensor, or next to all of it, and shows in any few of
    its numbers.
    """
    parts: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
    with torch.no_grad():
        for tensor in live.values():
            if _can_be_sampled(tensor):
                size = tensor.numel()
                few = tensor.as_strided((min(size, _SAMPLED),), (max(1, size // _SAMPLED),))
                parts.setdefault((tensor.device, tensor.dtype), []).append(few)
        return {group: torch.cat(few).view(_BITS[few[0].itemsize]) for group, few in parts.items()}


def _can_be_sampled(tensor: Tensor) -> bool:
    return (
        is_plain(tensor)
        and tensor.itemsize in _BITS
        and tensor.is_contiguous()
        and tensor.numel() > 0
        and not tensor.is_meta
    )
