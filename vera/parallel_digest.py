"""`splitmix64-sum/1`: a digest of a tensor's bytes that any number of processors compute side by side.

For a model that lies on a GPU: it is read where it is, at the speed of its memory, and 8 bytes a tensor
come back. A sum has no order, so the number is the same wherever and however it is computed.

It finds accidents: another revision, a lost shard, a flipped bit. It is no cryptographic hash. Whoever
wants two tensors of one digest can make them, and only the SHA-256 beside it tells them apart.

That takes the constant γ. `DigestBook` has one of its own, which nobody else knows.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SCHEME = "splitmix64-sum/1"

# Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the golden
# gamma, and the output function as (shift, multiplier) and a last shift.
GAMMA = 0x9E3779B97F4A7C15
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST_SHIFT = 31
WORD_BYTES = 8

# Words mixed at once: two buffers of them stay near a core.
_RUN = 1 << 16


class ParallelDigest:
    """The digest of bytes that come in pieces, in order. `gamma` is odd."""

    def __init__(self, gamma: int = GAMMA) -> None:
        self._gamma = gamma
        self._sum, self._words, self._rest = 0, 0, b""

    def update(self, data: bytes | bytearray | memoryview) -> None:
        joined = self._rest + bytes(memoryview(data).cast("B")) if self._rest else memoryview(data).cast("B")
        whole = len(joined) // WORD_BYTES * WORD_BYTES
        self._add(np.frombuffer(joined[:whole], dtype="<u8"))
        self._rest = bytes(joined[whole:])

    def hexdigest(self) -> str:
        """16 hex digits. The last word is filled up with zeros."""
        if not self._rest:
            return to_hex(self._sum)
        last = np.frombuffer(self._rest.ljust(WORD_BYTES, b"\0"), dtype="<u8")
        return to_hex(self._sum + sum_of_words(last, first=self._words, gamma=self._gamma))

    def _add(self, words: NDArray[np.uint64]) -> None:
        self._sum += sum_of_words(words, first=self._words, gamma=self._gamma)
        self._words += len(words)


def digest_of_bytes(data: bytes | bytearray | memoryview, gamma: int = GAMMA) -> str:
    digest = ParallelDigest(gamma)
    digest.update(data)
    return digest.hexdigest()


def sum_of_words(words: NDArray[np.uint64], *, first: int, gamma: int = GAMMA) -> int:
    """Σ mix(word + (i + 1) · gamma) mod 2^64 over `words`, of which `first` is the number i of the first."""
    total, counts = 0, np.arange(1, _RUN + 1, dtype=np.uint64) * np.uint64(gamma)
    for start in range(0, len(words), _RUN):
        run = words[start : start + _RUN]
        offset = np.uint64((first + start) * gamma % (1 << 64))
        state = run + counts[: len(run)]
        state += offset
        _mix(state)
        total += int(state.sum(dtype=np.uint64))
    return total % (1 << 64)


def to_hex(total: int) -> str:
    return f"{total % (1 << 64):016x}"


@dataclass
class DigestBook:
    """What this machine hashed: the SHA-256 of bytes, by their length and their digest under a γ of its own.

    Bytes that were made without knowing γ and that have a digest of the book are the bytes of its SHA-256. What
    somebody else put into it is worth nothing, so it never comes from anywhere.
    """

    gamma: int = field(default_factory=lambda: secrets.randbits(64) | 1, repr=False)
    known: dict[tuple[int, str], str] = field(default_factory=dict)  # (size in bytes, digest) → SHA-256


def _mix(state: NDArray[np.uint64]) -> None:
    for shift, multiplier in MIX:
        state ^= state >> np.uint64(shift)
        state *= np.uint64(multiplier)
    state ^= state >> np.uint64(LAST_SHIFT)
