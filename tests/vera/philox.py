"""`philox4x32-10/1` a second time, straight from docs/format.md and without NumPy."""

from __future__ import annotations

from fractions import Fraction

from tests.vera.mt19937 import to_float32

Words = tuple[int, int, int, int]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Philox4x32-10 as Salmon et al. 2011 define it."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = p1 // 2**32 ^ c1 ^ k0, p1 % 2**32, p0 // 2**32 ^ c3 ^ k1, p0 % 2**32
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def value(seed: int, matrix: int, row: int, column: int, bound: float) -> float:
    """The element of matrix A (0) or B (1): exact, then rounded once to float32."""
    u = philox4x32((column // 4, row, matrix, 0), (seed % 2**32, seed // 2**32))[column % 4]
    return to_float32(Fraction(2 * (u // 256) + 1 - 2**24) * Fraction(bound) / 2**24)


def uniform(
    seed: int, matrix: int, shape: tuple[int, int], bound: float, at: tuple[int, int] = (0, 0)
) -> list[list[float]]:
    """The part of `shape` that begins `at`, row by row."""
    return [
        [value(seed, matrix, row, column, bound) for column in range(at[1], at[1] + shape[1])]
        for row in range(at[0], at[0] + shape[0])
    ]
