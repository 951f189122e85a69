"""SHA-256 of live tensors, in the dtype their checkpoint stores them in.

Tensors on the host are hashed where they lie. Those on a GPU are recognised by their parallel digest when this machine
hashed the same bytes before (`vera.parallel_digest.DigestBook`), and copied to the host when it did not.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from vera.nn.parallel_digest import digests_of
from vera.parallel_digest import DigestBook

Progress = Callable[[int, int], None]
Job = tuple[Tensor, str]  # a tensor, and the dtype it is stored in, in the words of safetensors

FLOATS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
# Buffers such as position numbers and masks, and the weights of a checkpoint that is stored quantised.
_OTHERS = {
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPES = FLOATS | _OTHERS
_WIDE = (torch.float32, torch.float64)
# A cast to the stored dtype and back loses nothing when the live dtype contains it.
_CONTAINERS: Mapping[torch.dtype, tuple[torch.dtype, ...]] = {
    **{dtype: (dtype,) for dtype in _OTHERS.values()},
    torch.float8_e4m3fn: (torch.float8_e4m3fn, torch.float16, torch.bfloat16, *_WIDE),
    torch.float8_e5m2: (torch.float8_e5m2, torch.float16, torch.bfloat16, *_WIDE),
    torch.bfloat16: (torch.bfloat16, *_WIDE),
    torch.float16: (torch.float16, *_WIDE),
    torch.float32: _WIDE,
    torch.float64: (torch.float64,),
}
_THREADS = min(16, os.cpu_count() or 1)
_COPIED_BYTES = 1 << 23


def can_contain(live: torch.dtype, dtype: str) -> bool:
    """Whether a tensor held in `live` can hold every number of the stored `dtype`."""
    return live in _CONTAINERS[DTYPES[dtype]]


class TensorHasher:
    """Hashes tensors that may be those of the SHA-256 `wanted`.

    With a `book`, tensors on a GPU whose digest is in it are not copied to the host, and those that were, and are
    wanted, are written into it. What lies on devices `at_hand` is hashed there.
    """

    def __init__(
        self, book: DigestBook | None = None, wanted: Iterable[str] = (), *, at_hand: Sequence[str] = ("cpu",)
    ) -> None:
        self._book = book
        self._wanted = frozenset(wanted)
        self._at_hand = (*at_hand, "meta")
        self.recognised = 0  # wanted tensors that were known by their digest

    def sha256_all(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[str | None]:
        """The SHA-256 of each tensor in its stored dtype, None for one that holds other numbers than that can.

        `progress` is called with (bytes done, bytes in all).
        """
        digests = self._digests(jobs)
        found = self._recognise(digests)
        self.recognised += sum(digest in self._wanted for digest in found.values())
        total, done = sum(map(_size, jobs)), sum(_size(jobs[i]) for i in found)
        unknown = sorted(set(range(len(jobs))) - found.keys(), key=lambda i: -_size(jobs[i]))  # evens out the threads
        with ThreadPoolExecutor(_THREADS) as pool:
            for i, digest in zip(unknown, pool.map(lambda i: _sha256(*jobs[i]), unknown), strict=True):
                if digest:
                    found[i] = digest
                done += _size(jobs[i])
                if progress:
                    progress(done, total)
        self._learn({i: jobs[i] for i in unknown if i in digests and found.get(i) in self._wanted}, digests, found)
        return [found.get(i) for i in range(len(jobs))]

    def _digests(self, jobs: Sequence[Job]) -> dict[int, tuple[int, str]]:
        """(size in bytes, digest) of the jobs on a GPU, as they are stored."""
        if self._book is None:
            return {}
        there = [i for i, (tensor, _) in enumerate(jobs) if tensor.device.type not in self._at_hand]
        as_stored = [i for i in there if jobs[i][0].dtype == DTYPES[jobs[i][1]]]
        found = dict(zip(as_stored, self._keys([jobs[i][0] for i in as_stored]), strict=True))
        for i in set(there) - set(as_stored):  # one by one: their narrow copies together may not fit beside the model
            narrow = _narrow(*jobs[i])
            if narrow is not None:
                [found[i]] = self._keys([narrow])
        return found

    def _keys(self, tensors: Sequence[Tensor]) -> list[tuple[int, str]]:
        assert self._book
        found = digests_of(tensors, self._book.gamma)
        return [(tensor.nbytes, digest) for tensor, digest in zip(tensors, found, strict=True)]

    def _recognise(self, digests: Mapping[int, tuple[int, str]]) -> dict[int, str]:
        known = self._book.known if self._book else {}
        return {i: known[key] for i, key in digests.items() if key in known}

    def _learn(
        self, hashed: Mapping[int, Job], before: Mapping[int, tuple[int, str]], found: Mapping[int, str]
    ) -> None:
        """Digests are taken again: those of a tensor that was written to meanwhile would be of other bytes than were hashed."""
        after = self._digests(list(hashed.values()))
        for n, i in enumerate(hashed):
            if self._book and after.get(n) == before[i]:
                self._book.known[before[i]] = found[i]


def _size(job: Job) -> int:
    return job[0].nbytes


def _sha256(tensor: Tensor, dtype: str) -> str | None:
    narrow = _narrow(tensor, dtype)
    if narrow is None:
        return None
    data = narrow.contiguous().reshape(-1).view(torch.uint8)
    return _sha256_at_hand(data) if data.device.type == "cpu" else _sha256_from_afar(data)


def _sha256_at_hand(data: Tensor) -> str:
    return hashlib.sha256(data.numpy().data).hexdigest()


def _sha256_from_afar(data: Tensor) -> str:
    """Through one small buffer: copying a tensor whole would take longer to find the memory than to copy it."""
    hasher = hashlib.sha256()
    buffer = torch.empty(min(_COPIED_BYTES, len(data)), dtype=torch.uint8, pin_memory=data.device.type == "cuda")
    for start in range(0, len(data), _COPIED_BYTES):
        piece = data[start : start + _COPIED_BYTES]
        copied = buffer[: len(piece)].copy_(piece)
        hasher.update(copied.numpy().data)
    return hasher.hexdigest()


def _narrow(tensor: Tensor, dtype: str) -> Tensor | None:
    """`tensor` in the stored `dtype`, None when it cannot be the stored tensor."""
    stored, tensor = DTYPES[dtype], tensor.detach()
    if tensor.device.type == "meta" or not can_contain(tensor.dtype, dtype):
        return None
    if tensor.dtype == stored:
        return tensor
    narrow = tensor.to(stored)
    return narrow if torch.equal(narrow.to(tensor.dtype), tensor) else None
