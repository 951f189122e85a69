"""`splitmix64-sum/1` of live tensors, on the device they lie on: `vera.parallel_digest` there, number for number."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from vera.nn import kernels
from vera.parallel_digest import GAMMA, LAST_SHIFT, MIX, WORD_BYTES, to_hex

# Words mixed at once by torch operations: a few temporary tensors of 8 bytes each are alive.
_RUN = 1 << 20


def digests_of(tensors: Iterable[Tensor], gamma: int = GAMMA) -> list[str]:
    """The digest of the bytes of each of `tensors`, in their own dtypes and row-major.

    Waits for a device once, after all of its tensors: what is copied from it is 8 bytes for each.
    """
    sums = [_sum_of(tensor, gamma) for tensor in tensors]
    found: dict[int, int] = {}
    for device in {total.device for total in sums}:
        places = [place for place, total in enumerate(sums) if total.device == device]
        found |= zip(places, torch.stack([sums[place] for place in places]).tolist(), strict=True)
    return [to_hex(found[place]) for place in range(len(sums))]


def _sum_of(tensor: Tensor, gamma: int) -> Tensor:
    """The sum as an int64 tensor without dimensions, where `tensor` is."""
    data = _bytes_of(tensor)
    whole = len(data) // WORD_BYTES * WORD_BYTES
    total = _sum_of_words(data[:whole].view(torch.int64), gamma)
    if whole < len(data):
        last = data.new_zeros(WORD_BYTES)
        last[: len(data) - whole] = data[whole:]
        total = total + _sum_by_torch(last.view(torch.int64), first=whole // WORD_BYTES, gamma=gamma)
    return total


def _bytes_of(tensor: Tensor) -> Tensor:
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    return data.clone() if data.storage_offset() % WORD_BYTES else data  # torch reads no words at odd places


def _sum_of_words(words: Tensor, gamma: int) -> Tensor:
    if not kernels.can_run_on(words.device):
        return _sum_by_torch(words, first=0, gamma=gamma)
    from vera.nn.kernels import splitmix

    return splitmix.sum_of_words(words, gamma)


def _sum_by_torch(words: Tensor, *, first: int, gamma: int) -> Tensor:
    """Products of int64 wrap around as those of unsigned words do, bit for bit."""
    total = words.new_zeros(())
    for start in range(0, len(words), _RUN):
        run = words[start : start + _RUN]
        numbers = torch.arange(first + start + 1, first + start + 1 + len(run), device=words.device)
        state = run + numbers * _signed(gamma)
        for shift, multiplier in MIX:
            state = _xor_shifted(state, shift) * _signed(multiplier)
        total += _xor_shifted(state, LAST_SHIFT).sum()
    return total


def _xor_shifted(state: Tensor, shift: int) -> Tensor:
    """z ^ (z >> shift), where zeros come in from the left: the sign does in int64."""
    return state ^ ((state >> shift) & ((1 << (64 - shift)) - 1))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word
