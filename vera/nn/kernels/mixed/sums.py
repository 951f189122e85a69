"""Sums that are split over programs, and added in one order: equal inputs give equal bits."""

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from vera.nn.kernels.launching import WorkspaceTooSmall

_COUNTERS, _PARTIALS = 1 << 16, 1 << 24
HALF_THE_COUNTERS = _COUNTERS // 2  # for a kernel that another one, which counts too, may overlap


@triton.jit
def is_last(sum, partials, counters, block, part, BN: tl.constexpr, BM: tl.constexpr, SPLIT: tl.constexpr):
    """Whether this program is the last of its block to come here; every other has left its sum in `partials` then."""
    is_last = True
    if SPLIT > 1:
        at = tl.arange(0, BN)[:, None] * BM + tl.arange(0, BM)[None, :]
        tl.store(partials + (block * SPLIT + part).to(tl.int64) * (BN * BM) + at, sum)
        tl.debug_barrier()
        is_last = tl.atomic_add(counters + block, 1, sem="acq_rel") == SPLIT - 1
        if is_last:
            tl.store(counters + block, 0)  # as the next launch needs it
    return is_last


@triton.jit
def total(partials, block, BN: tl.constexpr, BM: tl.constexpr, SPLIT: tl.constexpr):
    """The sums of a block's programs, added in one order, whoever came last."""
    at = tl.arange(0, BN)[:, None] * BM + tl.arange(0, BM)[None, :]
    total = tl.zeros([BN, BM], tl.float32)
    for part in tl.static_range(SPLIT):
        total += tl.load(partials + (block * SPLIT + part).to(tl.int64) * (BN * BM) + at, cache_modifier=".cg")
    return total


@cache
def workspace(device: torch.device) -> tuple[Tensor, Tensor]:
    """Partial sums, and counters that are zero between launches. One stream at a time may use them."""
    return (
        torch.empty(_PARTIALS, dtype=torch.float32, device=device),
        torch.zeros(_COUNTERS, dtype=torch.int32, device=device),
    )


def check_fits(partials: int, counters: int) -> None:
    """Raises WorkspaceTooSmall."""
    if partials > _PARTIALS or counters > HALF_THE_COUNTERS:
        raise WorkspaceTooSmall(
            f"{partials:,} partial sums of {counters:,} blocks: more than {_PARTIALS:,} and {HALF_THE_COUNTERS:,}."
        )
