"""Frozen random number streams: the same float32 bits on every machine, for ever.

A stream is a format. One that is published is never edited; a new one is added beside it.

`peft-mt19937/1` is what PEFT draws its VeRA matrices from: MT19937 seeded by `init_genrand`, and
torch's `uniform_` on top of it. NumPy documents its MT19937 bit generator as frozen, torch
promises nothing of the kind, so this is built on NumPy.

`philox4x32-10/1` counts instead of remembering (Salmon, Moraes, Dror, Shaw, "Parallel random
numbers: as easy as 1, 2, 3", SC'11): a value depends on its seed, matrix, row and column alone, so
any part of a matrix is drawn without the rest, in any order, on any number of threads.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# The third word of a Philox counter: which matrix of the pair.
MATRIX_A, MATRIX_B = 0, 1

Words = NDArray[np.uint64]
Key = tuple[int, int]


def kaiming_bound(fan_in: int) -> np.float32:
    """Half-width of the Kaiming-uniform distribution with gain √2 (He et al. 2015, eq. 10)."""
    return np.float32(math.sqrt(6.0 / fan_in))


# -- peft-mt19937/1 -------------------------------------------------------------------------------

# Values are drawn in runs of this many, so that what lies between word and value stays in the cache.
_RUN = 1 << 16
_MANTISSA = np.uint32((1 << 24) - 1)


class PeftMt19937:
    """One `peft-mt19937/1` stream: successive uniform float32 draws from one seed."""

    def __init__(self, seed: int) -> None:
        self._words = np.random.RandomState(seed % (1 << 32))

    def uniform(self, shape: tuple[int, int], bound: np.float32) -> NDArray[np.float32]:
        """The next `shape` values of U[-bound, bound), row-major float32.

        Each 32-bit output u gives k = u mod 2^24 and the value
        float32(k·2^-24·(2·bound) - bound), rounded once: torch's `uniform_` with a fused
        multiply-add. That is (k - 2^23)·(bound·2^-23), whose factors are float32 numbers, so one
        float32 product rounds it the same way.
        """
        values = np.empty(shape[0] * shape[1], dtype=np.float32)
        scale = bound * np.float32(2.0**-23)
        for start in range(0, values.size, _RUN):
            run = values[start : start + _RUN]
            words = self._words.randint(0, 1 << 32, size=run.size, dtype=np.uint32)
            words &= _MANTISSA
            signed = words.view(np.int32)
            signed -= 1 << 23
            run[:] = signed
            run *= scale
        return values.reshape(shape)


# -- philox4x32-10/1 ------------------------------------------------------------------------------

# Salmon et al. 2011, section 3.3, with the constants of their Random123.
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_WEYL = (0x9E3779B9, 0xBB67AE85)
PHILOX_ROUNDS = 10

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_M0, _M1 = (np.uint64(m) for m in PHILOX_MULTIPLIERS)
_MULTIPLIERS = np.array([[_M0], [_M1]])
_SIGN_BITS = np.uint64(0x80000000_80000000)
# Where the high half of a 64-bit integer lies when its memory is read as two 32-bit ones.
_HIGH = 1 if sys.byteorder == "little" else 0
# Blocks of four values per tile: its two buffers, 32 bytes a block, stay near a core, and one
# operation on them takes longer than a thread waits for Python's lock. With half of it two threads
# are slower than one, with twice as much one thread is (docs/performance.md); more than four gain nothing.
_TILE_BLOCKS = 1 << 15
_MAX_THREADS = 4


class Philox4x32:
    """The `philox4x32-10/1` stream of one seed.

    Key: the seed, low word first. Counter: (column // 4, row, matrix, 0). The word u at
    column % 4 of the output gives the odd integer 2·(u >> 8) + 1 - 2^24, exact in float32, and
    the value is its product with the float32 number bound·2^-24: one rounding, so that no fused
    multiply-add can change it.
    """

    def __init__(self, seed: int) -> None:
        self._key = key_of(seed)

    def uniform(
        self, matrix: int, shape: tuple[int, int], bound: np.float32, *, at: tuple[int, int] = (0, 0)
    ) -> NDArray[np.float32]:
        """The part of `matrix` of `shape` (rows, columns) that begins `at` (row, column): U(-bound, bound), float32."""
        values = np.empty(shape, dtype=np.float32)
        tiles = list(_tiles(shape, at))
        workers = min(len(tiles), _MAX_THREADS, _usable_cores())

        def fill(worker: int) -> None:
            self._fill(values, tiles[worker::workers], matrix, bound, at)

        if workers == 1:
            fill(0)
        elif workers:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(fill, range(workers)))
        return values

    def _fill(
        self, values: NDArray[np.float32], tiles: Sequence[_Tile], matrix: int, bound: np.float32, at: tuple[int, int]
    ) -> None:
        """Draw `tiles` into `values`, which begins `at`, through two buffers that are allocated once."""
        scale = bound * np.float32(2.0**-24)
        buffers = np.empty((2, 2 * _TILE_BLOCKS), dtype=np.uint64)
        for tile in tiles:
            state, spare = buffers[:, : 2 * tile.height * tile.width]
            _run_rounds(tile, matrix, self._key, state, spare)
            odd = _odd_integers(state, out=spare).reshape(tile.height, 4 * tile.width)
            # The first and the last block of a row may reach beyond the part that was asked for.
            left, right = max(at[1], 4 * tile.block), min(at[1] + values.shape[1], 4 * (tile.block + tile.width))
            rows = slice(tile.row - at[0], tile.row - at[0] + tile.height)
            inside = odd[:, left - 4 * tile.block : right - 4 * tile.block]
            np.multiply(inside, scale, out=values[rows, left - at[1] : right - at[1]])


def key_of(seed: int) -> Key:
    """The Philox key of a seed of up to 64 bits: its low and its high word."""
    return seed & 0xFFFFFFFF, seed >> 32


def round_keys(key: Key) -> Iterator[Key]:
    """The key of each round: a Weyl sequence."""
    for n in range(PHILOX_ROUNDS):
        yield (key[0] + n * PHILOX_WEYL[0]) & 0xFFFFFFFF, (key[1] + n * PHILOX_WEYL[1]) & 0xFFFFFFFF


class _Tile(NamedTuple):
    """A rectangle of a matrix that is drawn at once; `block` and `width` count blocks of four columns."""

    row: int
    height: int
    block: int
    width: int


def _tiles(shape: tuple[int, int], at: tuple[int, int]) -> Iterator[_Tile]:
    """Tiles that cover the part of a matrix of `shape` that begins `at`."""
    bottom, first, last = at[0] + shape[0], at[1] // 4, -(-(at[1] + shape[1]) // 4)
    width = min(last - first, _TILE_BLOCKS)
    height = _TILE_BLOCKS // max(width, 1)
    for row in range(at[0], bottom, height):
        for block in range(first, last, max(width, 1)):
            yield _Tile(row, min(height, bottom - row), block, min(width, last - block))


def _run_rounds(tile: _Tile, matrix: int, key: Key, state: Words, spare: Words) -> None:
    """All rounds for the n blocks of `tile`, left in `state` (2·n); `spare` is as large.

    A 64-bit integer of `state` packs two of a block's words: c0 and c1 in the first half, c2 and
    c3 in the second. So a round is one product, two shifts and a xor, all in place, and its key
    is one more, for two rounds at once: a lower half goes up in the next round, and does nothing before.
    """
    keys = list(round_keys(key))
    _begin(tile, matrix, keys[:2], state)
    state, spare = state.reshape(2, -1), spare.reshape(2, -1)
    for (k0, k1), (next_k0, next_k1) in zip(keys[2::2], keys[3::2], strict=True):
        _mix(state, spare)
        np.bitwise_xor(state, np.array([[k0 << 32 | next_k0], [k1 << 32 | next_k1]], np.uint64), out=state)
        _mix(state, spare)


def _mix(state: Words, spare: Words) -> None:
    """A round without its key."""
    np.right_shift(state, _HALF, out=spare)
    np.multiply(spare, _MULTIPLIERS, out=spare)
    np.left_shift(state, _HALF, out=state)
    np.bitwise_xor(state, spare[::-1], out=state)


def _begin(tile: _Tile, matrix: int, keys: Sequence[Key], state: Words) -> None:
    """The first rounds, whose words depend for the most part on the row or the column alone, into `state`.

    A word is an array of its own here, no larger than what it depends on.
    """
    blocks_W = np.arange(tile.block, tile.block + tile.width, dtype=np.uint64)
    rows_H1 = np.arange(tile.row, tile.row + tile.height, dtype=np.uint64)[:, None]
    c0, c1, c2, c3 = blocks_W, rows_H1, np.array(matrix, np.uint64), np.array(0, np.uint64)
    for k0, k1 in keys:
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            ((p1 >> _HALF) ^ np.uint64(k0)) ^ c1,
            p1 & _LOW,
            ((p0 >> _HALF) ^ np.uint64(k1)) ^ c3,
            p0 & _LOW,
        )
    first_HW, second_HW = state.reshape(2, tile.height, tile.width)
    first_HW[:] = (c0 << _HALF) | c1
    np.left_shift(c2, _HALF, out=second_HW)
    np.bitwise_or(second_HW, c3, out=second_HW)


def _odd_integers(state: Words, *, out: Words) -> NDArray[np.float32]:
    """2·(u >> 8) + 1 - 2^24 of every word u of `state` (2·n), in the order of columns, as float32 in the memory of `out`.

    With its highest bit turned, the bits of u are those of the signed integer u - 2^31, and its
    shift by 7 is 2·(u >> 8) - 2^24, or one more.
    """
    np.bitwise_xor(state, _SIGN_BITS, out=state)
    signed = state.view(np.int32).reshape(2, -1, 2)
    np.right_shift(signed, 7, out=signed)
    np.bitwise_or(signed, 1, out=signed)
    odd = out.view(np.float32).reshape(-1, 4)
    for word in range(4):
        odd[:, word] = signed[word // 2, :, _HIGH ^ (word % 2)]
    return odd


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
