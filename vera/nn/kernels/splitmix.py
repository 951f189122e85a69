"""`splitmix64-sum/1` on a GPU: one launch that reads each word of many tensors once (docs/format.md)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from vera.parallel_digest import GAMMA, LAST_SHIFT, MIX, WORD_BYTES

_SHIFT0, _MULTIPLIER0 = (tl.constexpr(part) for part in MIX[0])
_SHIFT1, _MULTIPLIER1 = (tl.constexpr(part) for part in MIX[1])
_LAST_SHIFT = tl.constexpr(LAST_SHIFT)
# A program mixes this many words at once, this many times, of one tensor: 64 KB in all. The compiler lays the times side by
# side: 16 took 8.9 ms for 13.5 GB on an H100 instead of 6.8, 64 took 19.
_BLOCK, _TIMES = 2048, 4


def sums_of_words(tensors: Sequence[Tensor], gamma: int = GAMMA) -> Tensor:
    """Σ mix(word + (i + 1) · gamma) mod 2^64 over the whole words of each of `tensors`, as int64 (tensors).

    They are contiguous, on one device, and begin where a word may begin. Nothing is waited for.
    """
    counts = np.array([tensor.nbytes // WORD_BYTES for tensor in tensors], np.int64)
    programs = -(-counts // (_BLOCK * _TIMES))
    addresses = np.array([tensor.data_ptr() for tensor in tensors], np.int64)
    first_programs = np.cumsum(programs) - programs
    device = tensors[0].device
    table_3N = torch.from_numpy(np.stack([addresses, counts, first_programs])).to(device)
    tensor_P = torch.from_numpy(np.repeat(np.arange(len(tensors)), programs)).to(device)
    sums_N = torch.zeros(len(tensors), dtype=torch.int64, device=device)
    if len(tensor_P):
        with torch.cuda.device_of(sums_N):  # Triton launches on the current device
            _add[(len(tensor_P),)](
                sums_N, table_3N, tensor_P, len(tensors), gamma - (1 << 64) * (gamma >> 63),
                BLOCK=_BLOCK, TIMES=_TIMES, num_warps=8,
            )  # fmt: skip
    return sums_N


@triton.jit(do_not_specialize=["tensors", "gamma"])
def _add(sums_N, table_3N, tensor_P, tensors, gamma, BLOCK: tl.constexpr, TIMES: tl.constexpr):
    tensor = tl.load(tensor_P + tl.program_id(0))
    words = tl.load(table_3N + tensor).to(tl.pointer_type(tl.int64))
    count = tl.load(table_3N + tensors + tensor)
    first = (tl.program_id(0) - tl.load(table_3N + 2 * tensors + tensor)) * (BLOCK * TIMES)
    gamma = gamma.to(tl.int64).to(tl.uint64, bitcast=True)
    step_B = (tl.arange(0, BLOCK) + 1).to(tl.uint64) * gamma
    sum_B = tl.zeros([BLOCK], tl.uint64)
    for time in tl.static_range(TIMES):
        i_B = first + time * BLOCK + tl.arange(0, BLOCK)
        word_B = tl.load(words + i_B, mask=i_B < count, other=0).to(tl.uint64, bitcast=True)
        state_B = word_B + (step_B + (first + time * BLOCK).to(tl.uint64) * gamma)  # one product for the block
        state_B = (state_B ^ (state_B >> _SHIFT0)) * _MULTIPLIER0
        state_B = (state_B ^ (state_B >> _SHIFT1)) * _MULTIPLIER1
        state_B ^= state_B >> _LAST_SHIFT
        sum_B += tl.where(i_B < count, state_B, 0)
    # The order in which programs add is of no account: the sum is of integers.
    tl.atomic_add(sums_N + tensor, tl.sum(sum_B, 0).to(tl.int64, bitcast=True), sem="relaxed")
