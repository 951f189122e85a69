"""`splitmix64-sum/1` on a GPU: one pass that reads each word once (docs/format.md)."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from vera.parallel_digest import GAMMA, LAST_SHIFT, MIX

_SHIFT0, _MULTIPLIER0 = (tl.constexpr(part) for part in MIX[0])
_SHIFT1, _MULTIPLIER1 = (tl.constexpr(part) for part in MIX[1])
_LAST_SHIFT = tl.constexpr(LAST_SHIFT)
# A program mixes this many words at once, this many times: 256 KB in all.
_BLOCK, _TIMES = 2048, 16


def sum_of_words(words: Tensor, gamma: int = GAMMA) -> Tensor:
    """Σ mix(word + (i + 1) · gamma) mod 2^64 over int64 `words`, as an int64 tensor without dimensions."""
    total = torch.zeros((), dtype=torch.int64, device=words.device)
    if len(words):
        grid = (triton.cdiv(len(words), _BLOCK * _TIMES),)
        _sum[grid](words, total, len(words), gamma - (1 << 64) * (gamma >> 63), BLOCK=_BLOCK, TIMES=_TIMES, num_warps=8)
    return total


@triton.jit(do_not_specialize=["count", "gamma"])
def _sum(words, total, count, gamma, BLOCK: tl.constexpr, TIMES: tl.constexpr):
    sum_B = tl.zeros([BLOCK], tl.uint64)
    first = tl.program_id(0).to(tl.int64) * (BLOCK * TIMES)
    for time in tl.static_range(TIMES):
        i_B = first + time * BLOCK + tl.arange(0, BLOCK)
        word_B = tl.load(words + i_B, mask=i_B < count, other=0).to(tl.uint64, bitcast=True)
        state_B = word_B + (i_B + 1).to(tl.uint64) * gamma.to(tl.uint64, bitcast=True)
        state_B = (state_B ^ (state_B >> _SHIFT0)) * _MULTIPLIER0
        state_B = (state_B ^ (state_B >> _SHIFT1)) * _MULTIPLIER1
        state_B ^= state_B >> _LAST_SHIFT
        sum_B += tl.where(i_B < count, state_B, 0)
    # The order in which programs add is of no account: the sum is of integers.
    tl.atomic_add(total, tl.sum(sum_B, 0).to(tl.int64, bitcast=True), sem="relaxed")
