"""`splitmix64-sum/1` a second time, straight from docs/format.md and without torch."""

from __future__ import annotations

GAMMA = 0x9E3779B97F4A7C15


def mix(z: int) -> int:
    """The output function of SplitMix64."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def digest(data: bytes, gamma: int = GAMMA) -> str:
    data += bytes(-len(data) % 8)
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
    return f"{sum(mix((w + (i + 1) * gamma) % 2**64) for i, w in enumerate(words)) % 2**64:016x}"
