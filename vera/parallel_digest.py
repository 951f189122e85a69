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

# Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: the golden
# gamma, and the output function as (shift, multiplier) and a last shift.
GAMMA = 0x9E3779B97F4A7C15
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST_SHIFT = 31
WORD_BYTES = 8


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
