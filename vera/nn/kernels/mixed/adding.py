"""What the adapters add to products that are there."""

# N tokens of a batch, I in_features, O out_features, R rank, G modules of the group, S adapters (rows of `Packed.rows`)

from __future__ import annotations

import math
from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from vera.nn.kernels import MAX_MODULES
from vera.nn.kernels.launching import Repeats, has_gdc, launch
from vera.nn.kernels.mixed.batch import Packed, Tiles, evenly, padded, three
from vera.nn.kernels.mixed.vectors import adapters_of, lambdas, scaled


def add_adapted(
    y: Sequence[Tensor], h: Tensor, B_OR: Tensor, packed: Packed, places_b: Sequence[int], tiles: Tiles, *,
    out: Sequence[Tensor] | None = None, known: Repeats | None = None,
) -> None:  # fmt: skip
    """Add λb ⊙ (B h) to each of `y`, (N, O) with outputs side by side, in place or into `out`.

    h is that of each of them, in order, (N, G·R).
    """
    N, R, written = len(h), B_OR.shape[1], y if out is None else out
    launch(
        _add, (_blocks(y, tiles),),
        (h, B_OR, packed.rows, packed.index, *three(y), *three(written), N, packed.tokens, *_sizes(y), *_strides(y),
         *_strides(written), h.stride(0), B_OR.stride(0), packed.rows.stride(0), *padded(places_b)),
        {"R": R, "BN": tiles.tokens, "BO": tiles.outputs, "BR": math.gcd(R, tiles.inputs), "EARLY": tiles.early,
         "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, *_places(y)),
    )  # fmt: skip


def scale_and_add(
    y: Sequence[Tensor], Ax_NR: Tensor, B_OR: Tensor, packed: Packed, places_d: Sequence[int], places_b: Sequence[int],
    tiles: Tiles, *, out: Sequence[Tensor] | None = None, known: Repeats | None = None,
) -> None:  # fmt: skip
    """Add λb ⊙ (B (λd ⊙ Ax)) to each of `y`, as `scale` and `add_adapted` do in two launches.

    Every program scales anew what it takes of Ax, `tiles.inputs` ranks at a time.
    """
    N, R, written = len(Ax_NR), B_OR.shape[1], y if out is None else out
    launch(
        _scale_and_add, (_blocks(y, tiles),),
        (Ax_NR, B_OR, packed.rows, packed.index, *three(y), *three(written), N, packed.tokens, *_sizes(y), *_strides(y),
         *_strides(written), Ax_NR.stride(0), B_OR.stride(0), packed.rows.stride(0), *evenly(places_d), *padded(places_b)),
        {"R": R, "BN": tiles.tokens, "BO": tiles.outputs, "BR": math.gcd(R, tiles.inputs), "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, *_places(y)),
    )  # fmt: skip


def _blocks(y: Sequence[Tensor], tiles: Tiles) -> int:
    return sum(-(-part.shape[1] // tiles.outputs) for part in y) * -(-len(y[0]) // tiles.tokens)


def _sizes(y: Sequence[Tensor]) -> list[int]:
    return padded([part.shape[1] for part in y])


def _strides(y: Sequence[Tensor]) -> list[int]:
    return padded([part.stride(0) for part in y])


def _places(y: Sequence[Tensor]) -> list[int]:
    """Of what is read and of what is written, among a launch's arguments."""
    return [4 + first + g for first in (0, MAX_MODULES) for g in range(len(y))]


@triton.jit
def _module_of(
    which, y0, y1, y2, z0, z1, z2, O0, O1, O2, s0, s1, s2, t0, t1, t2, b0, b1, b2, BO: tl.constexpr
):  # fmt: skip
    """What a program needs of the module whose outputs it makes: `which` counts blocks of outputs through all of them."""
    blocks0, blocks1 = tl.cdiv(O0, BO), tl.cdiv(O1, BO)
    y, z, O, y_stride, z_stride, b_at, g, first = y0, z0, O0, s0, t0, b0, 0, 0
    if which >= blocks0:
        y, z, O, y_stride, z_stride, b_at, g, first = y1, z1, O1, s1, t1, b1, 1, blocks0
    if which >= blocks0 + blocks1:
        y, z, O, y_stride, z_stride, b_at, g, first = y2, z2, O2, s2, t2, b2, 2, blocks0 + blocks1
    return y, z, O, y_stride, z_stride, b_at, g, which - first


@triton.jit(do_not_specialize=["N", "tokens"])
def _add(
    h_NX, B_OR, rows_SV, index, y0, y1, y2, z0, z1, z2, N, tokens, O0, O1, O2, s0, s1, s2, t0, t1, t2,
    h_stride, B_stride, V, b0, b1, b2,
    R: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr, EARLY: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    across_n = tl.cdiv(N, BN)
    which, n = tl.program_id(0) // across_n, ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    y, z, O, y_stride, z_stride, b_at, g, block = _module_of(
        which, y0, y1, y2, z0, z1, z2, O0, O1, O2, s0, s1, s2, t0, t1, t2, b0, b1, b2, BO
    )
    o, r = block * BO + tl.arange(0, BO), tl.arange(0, BR)
    is_token, is_output = (n < N)[:, None], o < O
    adapter, first_adapter, is_one = adapters_of(index, n, N, tokens)
    h_from = h_NX + n[:, None] * h_stride + (g * R + r)[None, :]
    B_from = B_OR + (o % O)[:, None] * B_stride + r[None, :]
    y_at, is_here = y + n[:, None] * y_stride + o[None, :], is_token & is_output[None, :]
    if EARLY:  # λ is nobody's result
        b = lambdas(rows_SV, adapter, first_adapter, is_one, is_token, b_at + o, is_output, V)
    if PDL:
        gdc_wait()
    if EARLY:
        y_NO = tl.load(y_at, mask=is_here, other=0.0)
    added_NO = tl.zeros([BN, BO], tl.float32)
    for k in range(0, R, BR):
        h = tl.load(h_from + k, mask=is_token, other=0.0)
        B = tl.load(B_from + k)
        added_NO = tl.dot(h, tl.trans(B), added_NO, input_precision="ieee")
    if EARLY:
        added_NO *= b.to(tl.float32)
    else:
        added_NO = scaled(added_NO, rows_SV, adapter, first_adapter, is_one, is_token, b_at + o, is_output, V)
        y_NO = tl.load(y_at, mask=is_here, other=0.0)
    z_at = z + n[:, None] * z_stride + o[None, :]
    tl.store(z_at, (y_NO.to(tl.float32) + added_NO).to(z.dtype.element_ty), mask=is_here)


@triton.jit(do_not_specialize=["N", "tokens"])
def _scale_and_add(
    Ax_NR, B_OR, rows_SV, index, y0, y1, y2, z0, z1, z2, N, tokens, O0, O1, O2, s0, s1, s2, t0, t1, t2,
    Ax_stride, B_stride, V, first_d, step_d, b0, b1, b2,
    R: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    across_n = tl.cdiv(N, BN)
    which, n = tl.program_id(0) // across_n, ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    y, z, O, y_stride, z_stride, b_at, g, block = _module_of(
        which, y0, y1, y2, z0, z1, z2, O0, O1, O2, s0, s1, s2, t0, t1, t2, b0, b1, b2, BO
    )
    o, r = block * BO + tl.arange(0, BO), tl.arange(0, BR)
    is_token, is_here = (n < N)[:, None], (n < N)[:, None] & (o < O)[None, :]
    lambdas_at = rows_SV + tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)[:, None] * V
    d_from = lambdas_at + (first_d + g * step_d + r)[None, :]
    Ax_from = Ax_NR + n[:, None] * Ax_stride + r[None, :]
    B_from = B_OR + (o % O)[:, None] * B_stride + r[None, :]
    # λ and B are nobody's result.
    d = tl.load(d_from, mask=is_token, other=0.0)
    B = tl.load(B_from, eviction_policy="evict_last")
    b = tl.load(lambdas_at + (b_at + o)[None, :], mask=is_here, other=0.0)
    if PDL:
        gdc_wait()
    y_NO = tl.load(y + n[:, None] * y_stride + o[None, :], mask=is_here, other=0.0)
    added_NO = tl.zeros([BN, BO], tl.float32)
    for k in tl.static_range(0, R, BR):
        if k > 0:
            d = tl.load(d_from + k, mask=is_token, other=0.0)
            B = tl.load(B_from + k, eviction_policy="evict_last")
        Ax = tl.load(Ax_from + k, mask=is_token, other=0.0)
        h = (d.to(tl.float32) * Ax.to(tl.float32)).to(B.dtype)
        added_NO = tl.dot(h, tl.trans(B), added_NO, input_precision="ieee")
    z_NO = added_NO * b.to(tl.float32) + y_NO.to(tl.float32)
    tl.store(z + n[:, None] * z_stride + o[None, :], z_NO.to(z.dtype.element_ty), mask=is_here)
