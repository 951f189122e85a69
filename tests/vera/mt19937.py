"""`peft-mt19937/1` a second time, straight from docs/format.md and without NumPy.

MT19937 as Matsumoto and Nishimura published it (mt19937ar.c, 2002), and the mapping of its output
in exact rational arithmetic.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction

_N, _M = 624, 397


def words(seed: int) -> Iterator[int]:
    """The 32-bit outputs of MT19937 after `init_genrand(seed mod 2^32)`."""
    state = [seed % 2**32]
    for i in range(1, _N):
        state.append((1812433253 * (state[-1] ^ (state[-1] >> 30)) + i) % 2**32)
    while True:
        for i in range(_N):
            y = (state[i] & 0x80000000) | (state[(i + 1) % _N] & 0x7FFFFFFF)
            state[i] = state[(i + _M) % _N] ^ (y >> 1) ^ (0x9908B0DF if y & 1 else 0)
        yield from map(_temper, state)


def uniform(outputs: Iterator[int], count: int, bound: float) -> list[float]:
    """`count` values of U[-bound, bound): exact, then rounded once to float32."""
    width, low = Fraction(2 * bound), Fraction(-bound)
    return [to_float32(Fraction(next(outputs) % 2**24, 2**24) * width + low) for _ in range(count)]


def to_float32(exact: Fraction) -> float:
    """`exact` rounded to nearest even. It has under 53 significant bits here, so float() is exact."""
    as_double = float(exact)
    assert Fraction(as_double) == exact
    return float(struct.unpack("<f", struct.pack("<f", as_double))[0])


def _temper(y: int) -> int:
    y ^= y >> 11
    y ^= (y << 7) & 0x9D2C5680
    y ^= (y << 15) & 0xEFC60000
    return y ^ (y >> 18)
