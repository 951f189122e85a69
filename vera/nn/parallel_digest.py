"""`splitmix64-sum/1` of live tensors, on the device they lie on (docs/format.md)."""

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
    laid_out = [_laid_out(tensor) for tensor in tensors]
    found: dict[int, int] = {}
    for device in {tensor.device for tensor in laid_out}:
        places = [place for place, tensor in enumerate(laid_out) if tensor.device == device]
        found |= zip(places, _sums_of([laid_out[place] for place in places], gamma).tolist(), strict=True)
    return [to_hex(found[place]) for place in range(len(laid_out))]


def _laid_out(tensor: Tensor) -> Tensor:
    """`tensor` itself when its bytes lie side by side from where a word may begin, else a copy."""
    tensor = tensor.detach().contiguous()
    return tensor.clone() if tensor.storage_offset() * tensor.element_size() % WORD_BYTES else tensor


def _sums_of(tensors: list[Tensor], gamma: int) -> Tensor:
    """The sum of each of `tensors`, all of one device, as int64 there."""
    sums = _sums_of_whole_words(tensors, gamma)
    for place, tensor in enumerate(tensors):
        if rest := tensor.nbytes % WORD_BYTES:
            last = torch.zeros(WORD_BYTES, dtype=torch.uint8, device=tensor.device)
            last[:rest] = _bytes_of(tensor)[-rest:]
            sums[place] += _sum_by_torch(last.view(torch.int64), first=tensor.nbytes // WORD_BYTES, gamma=gamma)
    return sums


def _sums_of_whole_words(tensors: list[Tensor], gamma: int) -> Tensor:
    if kernels.can_run_on(tensors[0].device):
        from vera.nn.kernels import splitmix

        return splitmix.sums_of_words(tensors, gamma)
    whole = [_bytes_of(tensor)[: tensor.nbytes // WORD_BYTES * WORD_BYTES].view(torch.int64) for tensor in tensors]
    return torch.stack([_sum_by_torch(words, first=0, gamma=gamma) for words in whole])


def _bytes_of(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1).view(torch.uint8)


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
