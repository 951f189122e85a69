"""What the adapters add to products that are there."""

# N tokens of a batch, I in_features, O out_features, R rank, G modules of the group, S adapters (rows of `Packed.rows`)

from __future__ import annotations

import math
from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from vera.nn.kernels.launching import Repeats, has_gdc, launch
from vera.nn.kernels.mixed.batch import MAX_MODULES, Packed, Tiles, evenly, padded, three
from vera.nn.kernels.mixed.vectors import adapters_of, scaled


def add_adapted(
    y: Sequence[Tensor], h: Tensor, B_OR: Tensor, packed: Packed, places_b: Sequence[int], tiles: Tiles, *,
    known: Repeats | None = None,
) -> None:  # fmt: skip
    """Add λb ⊙ (B h) to each of `y`, (N, O) with outputs side by side, in place.

    h is that of each of them, in order, (N, G·R).
    """
    N, R = len(h), B_OR.shape[1]
    outputs = [part.shape[1] for part in y] + [0] * (MAX_MODULES - len(y))
    strides = [part.stride(0) for part in y] + [0] * (MAX_MODULES - len(y))
    blocks = sum(triton.cdiv(O, tiles.outputs) for O in outputs) * triton.cdiv(N, tiles.tokens)
    launch(
        _add, (blocks,),
        (h, B_OR, packed.rows, packed.index, *three(y), N, packed.tokens, *outputs, *strides,
         h.stride(0), B_OR.stride(0), packed.rows.stride(0), *padded(places_b)),
        {"R": R, "BN": tiles.tokens, "BO": tiles.outputs, "BR": math.gcd(R, tiles.inputs),
         "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, *range(4, 4 + len(y))),
    )  # fmt: skip


def scale_and_add(
    y: Sequence[Tensor], Ax_NR: Tensor, B_OR: Tensor, packed: Packed, places_d: Sequence[int], places_b: Sequence[int],
    tiles: Tiles, *, known: Repeats | None = None,
) -> None:  # fmt: skip
    """Add λb ⊙ (B (λd ⊙ Ax)) to each of `y`, (N, O) with outputs side by side, in place: `scale` and `add_adapted` in one launch.

    Every program scales anew what it takes of Ax, `tiles.inputs` ranks at a time.
    """
    (N, _), R = Ax_NR.shape, B_OR.shape[1]
    outputs = [part.shape[1] for part in y] + [0] * (MAX_MODULES - len(y))
    strides = [part.stride(0) for part in y] + [0] * (MAX_MODULES - len(y))
    blocks = sum(triton.cdiv(O, tiles.outputs) for O in outputs) * triton.cdiv(N, tiles.tokens)
    launch(
        _scale_and_add, (blocks,),
        (Ax_NR, B_OR, packed.rows, packed.index, *three(y), N, packed.tokens, *outputs, *strides,
         Ax_NR.stride(0), B_OR.stride(0), packed.rows.stride(0), *evenly(places_d), *padded(places_b)),
        {"R": R, "BN": tiles.tokens, "BO": tiles.outputs, "BR": math.gcd(R, tiles.inputs), "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, *range(4, 4 + len(y))),
    )  # fmt: skip


@triton.jit(do_not_specialize=["N", "tokens"])
def _add(
    h_NX, B_OR, rows_SV, index, y0, y1, y2, N, tokens, O0, O1, O2, s0, s1, s2, h_stride, B_stride, V, b0, b1, b2,
    R: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    across_n = tl.cdiv(N, BN)
    which, n = tl.program_id(0) // across_n, ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    blocks0, blocks1 = tl.cdiv(O0, BO), tl.cdiv(O1, BO)
    y, O, y_stride, g, b_at, first = y0, O0, s0, 0, b0, 0
    if which >= blocks0:
        y, O, y_stride, g, b_at, first = y1, O1, s1, 1, b1, blocks0
    if which >= blocks0 + blocks1:
        y, O, y_stride, g, b_at, first = y2, O2, s2, 2, b2, blocks0 + blocks1
    o, r = (which - first) * BO + tl.arange(0, BO), tl.arange(0, BR)
    is_token, is_output = (n < N)[:, None], o < O
    adapter, first_adapter, is_one = adapters_of(index, n, N, tokens)
    h_from, B_from = (
        h_NX + n[:, None] * h_stride + (g * R + r)[None, :],
        B_OR + (o % O)[:, None] * B_stride + r[None, :],
    )
    y_at, is_here = y + n[:, None] * y_stride + o[None, :], is_token & is_output[None, :]
    if PDL:
        gdc_wait()
    added_NO = tl.zeros([BN, BO], tl.float32)
    for k in range(0, R, BR):
        h = tl.load(h_from + k, mask=is_token, other=0.0)
        added_NO = tl.dot(h, tl.trans(tl.load(B_from + k)), added_NO, input_precision="ieee")
    added_NO = scaled(added_NO, rows_SV, adapter, first_adapter, is_one, is_token, b_at + o, is_output, V)
    y_NO = tl.load(y_at, mask=is_here, other=0.0).to(tl.float32)
    tl.store(y_at, (y_NO + added_NO).to(y.dtype.element_ty), mask=is_here)


@triton.jit(do_not_specialize=["N", "tokens"])
def _scale_and_add(
    Ax_NR, B_OR, rows_SV, index, y0, y1, y2, N, tokens, O0, O1, O2, s0, s1, s2, Ax_stride, B_stride, V, first_d, step_d,
    b0, b1, b2, R: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    across_n = tl.cdiv(N, BN)
    which, n = tl.program_id(0) // across_n, ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    blocks0, blocks1 = tl.cdiv(O0, BO), tl.cdiv(O1, BO)
    y, O, y_stride, g, b_at, first = y0, O0, s0, 0, b0, 0
    if which >= blocks0:
        y, O, y_stride, g, b_at, first = y1, O1, s1, 1, b1, blocks0
    if which >= blocks0 + blocks1:
        y, O, y_stride, g, b_at, first = y2, O2, s2, 2, b2, blocks0 + blocks1
    o, r = (which - first) * BO + tl.arange(0, BO), tl.arange(0, BR)
    is_token, is_output = (n < N)[:, None], (o < O)[None, :]
    adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
    d_from = rows_SV + adapter[:, None] * V + (first_d + g * step_d + r)[None, :]
    b_from = rows_SV + adapter[:, None] * V + (b_at + o)[None, :]
    Ax_from = Ax_NR + n[:, None] * Ax_stride + r[None, :]
    B_from = B_OR + (o % O)[:, None] * B_stride + r[None, :]
    # What no kernel has just made is there when the products are.
    d, B = tl.load(d_from, mask=is_token, other=0.0), tl.load(B_from)
    b = tl.load(b_from, mask=is_token & is_output, other=0.0)
    if PDL:
        gdc_wait()
    y_at, is_here = y + n[:, None] * y_stride + o[None, :], is_token & is_output
    y_NO, added_NO = tl.load(y_at, mask=is_here, other=0.0), tl.zeros([BN, BO], tl.float32)
    for k in tl.static_range(0, R, BR):
        if k > 0:
            d, B = tl.load(d_from + k, mask=is_token, other=0.0), tl.load(B_from + k)
        Ax = tl.load(Ax_from + k, mask=is_token, other=0.0)
        h = (d.to(tl.float32) * Ax.to(tl.float32)).to(B.dtype)
        added_NO = tl.dot(h, tl.trans(B), added_NO, input_precision="ieee")
    added_NO = added_NO * b.to(tl.float32) + y_NO.to(tl.float32)
    tl.store(y_at, added_NO.to(y.dtype.element_ty), mask=is_here)
