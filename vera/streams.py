"""Frozen random number streams: the same float32 bits on every machine, for ever.

A stream is a format. One that is published is never edited; a new one is added beside it.

`peft-mt19937/1` is what PEFT draws its VeRA matrices from: MT19937 seeded by `init_genrand`, and
torch's `uniform_` on top of it. NumPy documents its MT19937 bit generator as frozen, torch
promises nothing of the kind, so this is built on NumPy.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

PEFT_MT19937 = "peft-mt19937/1"

# Values are drawn in runs of this many, so that the float64 intermediates stay in the cache.
_RUN = 1 << 16
_MANTISSA = np.uint32((1 << 24) - 1)
_UNIT = 2.0**-24


def kaiming_bound(fan_in: int) -> np.float32:
    """Half-width of the Kaiming-uniform distribution with gain √2 (He et al. 2015, eq. 10)."""
    return np.float32(math.sqrt(6.0 / fan_in))


class PeftMt19937:
    """One `peft-mt19937/1` stream: successive uniform float32 draws from one seed."""

    def __init__(self, seed: int) -> None:
        self._words = np.random.RandomState(seed % (1 << 32))

    def uniform(self, shape: tuple[int, int], bound: np.float32) -> NDArray[np.float32]:
        """The next `shape` values of U[-bound, bound), row-major float32.

        Each 32-bit output u gives k = u mod 2^24 and the value
        float32(k·2^-24·(2·bound) - bound), rounded once: torch's `uniform_` with a fused
        multiply-add.
        """
        values = np.empty(shape[0] * shape[1], dtype=np.float32)
        width, low = float(bound + bound), -float(bound)
        for start in range(0, values.size, _RUN):
            run = values[start : start + _RUN]
            words = self._words.randint(0, 1 << 32, size=run.size, dtype=np.uint32)
            unit = (words & _MANTISSA) * _UNIT
            unit *= width
            unit += low
            run[:] = unit
        return values.reshape(shape)
