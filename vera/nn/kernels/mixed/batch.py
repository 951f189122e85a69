"""What the kernels of a mixed batch are given: where the adapters and the weights are, and how to cut the work."""

# N tokens of a batch, I in_features, O out_features, R rank, G modules of the group, S adapters (rows of `Packed.rows`)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from vera.nn.kernels import MAX_MODULES, RANK_STEP


@dataclass(frozen=True)
class Packed:
    """Where the adapters are: a row of `rows` (S, V) for each, and of each token's batch row the number of its row there.

    `tokens` is how many tokens follow one another for an entry of `index`.
    """

    rows: Tensor
    index: Tensor
    tokens: int


@dataclass(frozen=True)
class Tiles:
    """How a kernel cuts its work: tokens, outputs and inputs a program takes at once, programs a sum is split over, warps
    and stages; `early` for one that reads λ and the base's products before it makes its sum and not after it, which takes
    registers for them beside the sum."""

    tokens: int
    outputs: int
    inputs: int
    split: int
    warps: int
    stages: int
    early: bool = False


@dataclass(frozen=True)
class Module:
    """A linear module of a group: its weight (O, I) and bias (O), and where in a row of the bank λb begins; None for
    one that no adapter adapts, which is there because it has the same input."""

    weight: Tensor
    bias: Tensor | None
    place_b: int | None


def split_of(tiles: Tiles, I: int, R: int) -> int:
    """Programs a sum of I inputs and R ranks can be split over: each has whole steps of both."""
    split = max(1, min(tiles.split, I // tiles.inputs))
    while R % (split * RANK_STEP):
        split //= 2
    return split


def evenly(places: Sequence[int]) -> tuple[int, int]:
    step = places[1] - places[0] if len(places) > 1 else 0
    assert list(places) == [places[0] + g * step for g in range(len(places))], (
        "the bank lays λd of a group side by side"
    )
    return places[0], step


def places(modules: Sequence[Module], rank: int) -> tuple[list[int], list[int]]:
    """Where h and λb of each module begin; -1 for one without an adapter."""
    at_h, at_b, adapted = [-1] * MAX_MODULES, [0] * MAX_MODULES, 0
    for g, module in enumerate(modules):
        if module.place_b is not None:
            at_h[g], at_b[g], adapted = adapted * rank, module.place_b, adapted + 1
    return at_h, at_b


def padded(places: Sequence[int]) -> list[int]:
    return [*places, *[0] * (MAX_MODULES - len(places))]


def three(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [*tensors, *[tensors[0]] * (MAX_MODULES - len(tensors))]


def biases_of(modules: Sequence[Module], other: Tensor) -> list[Tensor]:
    """The bias of each, zeros for one that has none beside others that do; `other`, which is not read, when none has one."""
    if all(module.bias is None for module in modules):
        return [other] * len(modules)
    return [_zeros(len(m.weight), other.dtype, other.device) if m.bias is None else m.bias for m in modules]


@cache  # a launch that is repeated goes on reading them
def _zeros(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.zeros(size, dtype=dtype, device=device)


def either(tensor: Tensor | None, other: Tensor) -> Tensor:
    return other if tensor is None else tensor
