"""`philox4x32-10/1` on a GPU: one pass that writes a part of a matrix and reads nothing (docs/format.md)."""

from __future__ import annotations

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from vera.streams import PHILOX_MULTIPLIERS, PHILOX_ROUNDS, PHILOX_WEYL, key_of

_M0, _M1 = (tl.constexpr(multiplier) for multiplier in PHILOX_MULTIPLIERS)
_W0, _W1 = (tl.constexpr(step) for step in PHILOX_WEYL)
_ROUNDS = tl.constexpr(PHILOX_ROUNDS)
_DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
# A program draws this many rows and blocks of four columns, four blocks for each of its 128 threads. On an H100 (4, 64) took
# 42 µs for the largest pair instead of 38, (4, 32) 50; larger and squarer tiles were as quick.
_ROWS, _BLOCKS = 4, 128


def draw(
    values: Tensor, seed: int, matrix: int, bound: np.float32, *, at: tuple[int, int] = (0, 0),
    rounding: torch.dtype = torch.float32,
) -> None:  # fmt: skip
    """Fill `values` (rows x columns, contiguous) with the part of `matrix` that begins `at`, rounded to `rounding`.

    Bit for bit `vera.streams.Philox4x32.uniform`, in the dtype of `values`.
    """
    rows, columns = values.shape
    first, last = at[1] // 4, -(-(at[1] + columns) // 4)
    grid = (triton.cdiv(rows, _ROWS), triton.cdiv(last - first, _BLOCKS))
    if values.numel():
        with torch.cuda.device_of(values):  # Triton launches on the current device
            _draw[grid](
                values, *(_signed(word) for word in key_of(seed)), matrix, float(bound) * 2.0**-24, rows, columns, *at,
                rounding=_DTYPES[rounding], ROWS=_ROWS, BLOCKS=_BLOCKS,
            )  # fmt: skip


def _signed(word: int) -> int:
    """The bits of a 32-bit word as a signed integer: Triton would compile a larger one again, as 64 bits."""
    return word - (1 << 32) if word >> 31 else word


@triton.jit(do_not_specialize=["k0", "k1", "matrix", "scale", "row_at", "column_at"])
def _draw(
    values, k0, k1, matrix, scale, rows, columns, row_at, column_at,
    rounding: tl.constexpr, ROWS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    row_R = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = column_at // 4 + tl.program_id(1) * BLOCKS
    zero_RB = tl.zeros([ROWS, BLOCKS], tl.int32)
    w0, w1, w2, w3 = _philox4x32(
        _unsigned(zero_RB + (first + tl.arange(0, BLOCKS))[None, :]), _unsigned(zero_RB + (row_at + row_R)[:, None]),
        _unsigned(zero_RB + matrix), _unsigned(zero_RB), _unsigned(k0), _unsigned(k1),
    )  # fmt: skip
    word_RC = tl.reshape(tl.join(tl.join(w0, w2), tl.join(w1, w3)), [ROWS, 4 * BLOCKS])
    odd_RC = ((word_RC >> 8).to(tl.int32) * 2 + (1 - (1 << 24))).to(tl.float32)  # exact: below 2^24 in magnitude
    value_RC = _rounded(odd_RC * scale, rounding).to(values.dtype.element_ty)
    # The first and the last block of a row may reach beyond the part that was asked for.
    column_C = first * 4 - column_at + tl.arange(0, 4 * BLOCKS)
    inside = (row_R < rows)[:, None] & (column_C >= 0)[None, :] & (column_C < columns)[None, :]
    tl.store(values + row_R.to(tl.int64)[:, None] * columns + column_C[None, :], value_RC, mask=inside)


@triton.jit
def _philox4x32(c0, c1, c2, c3, k0, k1):
    for _ in tl.static_range(_ROUNDS):
        high0, low0 = tl.umulhi(c0, _M0), c0 * _M0
        high1, low1 = tl.umulhi(c2, _M1), c2 * _M1
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0 += _W0
        k1 += _W1
    return c0, c1, c2, c3


@triton.jit
def _rounded(value, dtype: tl.constexpr):
    """float32 `value` to the nearest number of `dtype`, ties to even; by its bits where Triton's interpreter would cut."""
    if dtype == tl.bfloat16:
        bits = _unsigned(value)
        value = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).to(tl.float32, bitcast=True)
    return value.to(dtype)


@triton.jit
def _unsigned(word):
    return word.to(tl.uint32, bitcast=True)
