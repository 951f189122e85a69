"""One VeRA adapter for each row of a batch, for all modules that are given the same input, on a GPU.

    y_g = x W_gᵀ + λb_g[i] ⊙ (h_g Bᵀ),   h_g = λd_g[i] ⊙ (x Aᵀ)        i is the adapter of the row

A and B are shared by every module and every adapter, so they stay in the cache, and of an adapter a row
reads two vectors. `project` makes h for the whole group; then `multiply_adapted` makes the base's own products and adds
the adapters' to them in the same registers, or `add_adapted` adds to products that are there, x Aᵀ perhaps among them.

Sums over the inputs are split over programs, and what they make is added in one order: equal inputs give equal bits.
"""

# N tokens of a batch, I in_features, O out_features, R rank, G modules of the group, S adapters (rows of `Packed.rows`)

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait
from triton.tools.tensor_descriptor import TensorDescriptor

from vera.nn.kernels.launching import Compiled, launch

MAX_MODULES = 3  # of one group: the kernels take as many pointers
RANK_STEP = 32  # ranks are multiples of it
_COUNTERS, _PARTIALS = 1 << 16, 1 << 24


@dataclass(frozen=True)
class Packed:
    """Where the adapters are: a row of `rows` (S, V) for each, and of each token's batch row the number of its row there.

    `tokens` is how many tokens follow one another for an entry of `index`.
    """

    rows: Tensor
    index: Tensor
    tokens: int


@dataclass(frozen=True)
class Tiles:
    """How a kernel cuts its work: tokens, outputs and inputs a program takes at once, programs a sum is split over, warps
    and stages."""

    tokens: int
    outputs: int
    inputs: int
    split: int
    warps: int
    stages: int


def project(
    x_NI: Tensor, A_RI: Tensor, packed: Packed, places_d: Sequence[int], tiles: Tiles, *, out: Tensor | None = None,
    known: Compiled | None = None,
) -> Tensor:  # fmt: skip
    """λd ⊙ (A x) of each module, side by side, (N, G·R) in the dtype of x; in `out` when it is given.

    `places_d[g]` is the column of `packed.rows` at which λd of module g begins.
    """
    (N, I), R, G = x_NI.shape, A_RI.shape[0], len(places_d)
    h_NGR = x_NI.new_empty(N, G * R) if out is None else out
    split = max(1, min(tiles.split, I // tiles.inputs))
    blocks = (R // tiles.outputs) * triton.cdiv(N, tiles.tokens)
    partials, counters = _workspace(x_NI.device)
    if split > 1:
        _fits(blocks * split * tiles.tokens * tiles.outputs, blocks)
    first, step = _evenly(places_d)
    launch(
        _project, (blocks * split,),
        (x_NI, A_RI, packed.rows, packed.index, partials, counters, h_NGR,
         N, packed.tokens, I, x_NI.stride(0), A_RI.stride(0), packed.rows.stride(0), first, step),
        {"G": G, "R": R, "BN": tiles.tokens, "BR": tiles.outputs, "BI": tiles.inputs, "SPLIT": split,
         "EVEN": I % (split * tiles.inputs) == 0, "PDL": _has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=_has_gdc(), known=known,
    )  # fmt: skip
    return h_NGR


@dataclass(frozen=True)
class Module:
    """A linear module of a group: its weight (O, I) and bias (O), and where in a row of the bank λb begins; None for
    one that no adapter adapts, which is there because it has the same input."""

    weight: Tensor
    bias: Tensor | None
    place_b: int | None


def multiply_adapted(
    x_NI: Tensor, modules: Sequence[Module], h_NGR: Tensor, B_OR: Tensor, packed: Packed, tiles: Tiles, *,
    known: Compiled | None = None,
) -> list[Tensor]:  # fmt: skip
    """W x + bias, and for adapted modules λb ⊙ (B h) more, (N, O) each; h is that of the adapted ones, in order."""
    (N, I), R, count = x_NI.shape, B_OR.shape[1], len(modules)
    y = [torch.empty(N, len(m.weight), dtype=x_NI.dtype, device=x_NI.device) for m in modules]
    outputs = [len(m.weight) for m in modules] + [0] * (MAX_MODULES - count)
    split = _split(tiles, I, R)
    blocks = sum(triton.cdiv(O, tiles.outputs) for O in outputs) * triton.cdiv(N, tiles.tokens)
    partials, counters = _workspace(x_NI.device)
    if split > 1:
        _fits(blocks * split * tiles.tokens * tiles.outputs, blocks)
    at_h, at_b = _places(modules, R)
    weights, biases = _three([m.weight for m in modules]), _three([_or(m.bias, x_NI) for m in modules])
    launch(
        _multiply, (blocks * split,),
        (x_NI, *weights, *biases, h_NGR, B_OR, packed.rows, packed.index, *_three(y), partials, counters[_COUNTERS // 2 :],
         N, packed.tokens, I, *outputs, x_NI.stride(0), h_NGR.stride(0), B_OR.stride(0), packed.rows.stride(0), *at_h, *at_b),
        {"R": R, "BIAS": any(m.bias is not None for m in modules), "BN": tiles.tokens, "BO": tiles.outputs, "BI": tiles.inputs,
         "BR": math.gcd(R // split, 64), "SPLIT": split, "EVEN": I % (split * tiles.inputs) == 0, "PDL": _has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=_has_gdc(), known=known,
    )  # fmt: skip
    return y


def add_adapted(
    y: Sequence[Tensor], h: Tensor, B_OR: Tensor, packed: Packed, places_b: Sequence[int], tiles: Tiles, *,
    places_d: Sequence[int] | None = None, known: Compiled | None = None,
) -> None:  # fmt: skip
    """Add λb ⊙ (B h) to each of `y`, (N, O) with outputs side by side, in place.

    h is that of each of them, in order, (N, G·R); with `places_d` it is x Aᵀ, (N, R), and is scaled by λd here.
    """
    N, R = len(h), B_OR.shape[1]
    outputs = [part.shape[1] for part in y] + [0] * (MAX_MODULES - len(y))
    strides = [part.stride(0) for part in y] + [0] * (MAX_MODULES - len(y))
    blocks = sum(triton.cdiv(O, tiles.outputs) for O in outputs) * triton.cdiv(N, tiles.tokens)
    launch(
        _add, (blocks,),
        (h, B_OR, packed.rows, packed.index, *_three(y), N, packed.tokens, *outputs, *strides,
         h.stride(0), B_OR.stride(0), packed.rows.stride(0), *_padded(places_b), *_padded(places_d or [])),
        {"SCALES": places_d is not None, "R": R, "BN": tiles.tokens, "BO": tiles.outputs, "BR": math.gcd(R, tiles.inputs),
         "PDL": _has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=_has_gdc(), known=known,
    )  # fmt: skip


def accumulate_adapted(
    x_NI: Tensor, module: Module, h_NR: Tensor, B_OR: Tensor, packed: Packed, tiles: Tiles
) -> Tensor:
    """W x + bias + λb ⊙ (B h) of one module, (N, O), for many tokens: the sum of the base begins with the adapter's.

    h is that of the module, whose rank is a multiple of `tiles.inputs`. Tiles go through descriptors (TMA).
    """
    N, O = len(x_NI), len(module.weight)
    y_NO = torch.empty(N, O, dtype=x_NI.dtype, device=x_NI.device)
    sides = tiles.tokens, tiles.outputs, tiles.inputs
    programs = min(_processors(x_NI.device), triton.cdiv(N, sides[0]) * triton.cdiv(O, sides[1]))
    with torch.cuda.device_of(x_NI):  # Triton launches on the current device
        _accumulate[(programs,)](
            _tiled(x_NI, sides[0], sides[2]), _tiled(module.weight, sides[1], sides[2]), _tiled(h_NR, sides[0], sides[2]),
            _tiled(B_OR[:O], sides[1], sides[2]), _tiled(y_NO, sides[0], sides[1] // 2), _or(module.bias, x_NI), packed.rows,
            packed.index, N, packed.tokens, O, x_NI.shape[1], packed.rows.stride(0), module.place_b,
            R=B_OR.shape[1], BIAS=module.bias is not None, BN=sides[0], BO=sides[1], BI=sides[2], PROGRAMS=programs,
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
    return y_NO


def scale(h_NR: Tensor, packed: Packed, places_d: Sequence[int], *, out: Tensor | None = None) -> Tensor:
    """λd ⊙ h of each module, side by side, (N, G·R): what `project` makes, of products that are there."""
    (N, R), G = h_NR.shape, len(places_d)
    h_NGR = h_NR.new_empty(N, G * R) if out is None else out
    first, step = _evenly(places_d)
    launch(
        _scale, (triton.cdiv(N, 16), R // RANK_STEP),
        (h_NR, packed.rows, packed.index, h_NGR, N, packed.tokens, h_NR.stride(0), packed.rows.stride(0), first, step),
        {"G": G, "R": R, "BN": 16, "BR": RANK_STEP}, warps=2, stages=3,
    )  # fmt: skip
    return h_NGR


@triton.jit(do_not_specialize=["N", "tokens"])
def _project(
    x_NI, A_RI, rows_SV, index, partials, counters, h_NGR, N, tokens, I, x_stride, A_stride, V, first_d, step_d,
    G: tl.constexpr, R: tl.constexpr, BN: tl.constexpr, BR: tl.constexpr, BI: tl.constexpr, SPLIT: tl.constexpr,
    EVEN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    block, part = tl.program_id(0) // SPLIT, tl.program_id(0) % SPLIT
    n = ((block // (R // BR)) * BN + tl.arange(0, BN)).to(tl.int64)  # times a stride it may be beyond 2^31
    r = (block % (R // BR)) * BR + tl.arange(0, BR)
    i = part * BI + tl.arange(0, BI)
    is_token = (n < N)[:, None]
    A_at, x_at = A_RI + r[:, None] * A_stride + i[None, :], x_NI + n[:, None] * x_stride + i[None, :]
    if EVEN:
        A = tl.load(A_at)
    else:
        A = tl.load(A_at, mask=i[None, :] < I, other=0.0)
    if PDL:  # A is nobody's result; x may be that of the kernel before, and what comes after this may begin now
        gdc_wait()
        gdc_launch_dependents()
    if EVEN:
        x = tl.load(x_at, mask=is_token, other=0.0)
    else:
        x = tl.load(x_at, mask=is_token & (i < I)[None, :], other=0.0)
    sum_NR = tl.dot(x, tl.trans(A), input_precision="ieee")
    for start in range(SPLIT * BI, tl.cdiv(I, SPLIT * BI) * SPLIT * BI, SPLIT * BI):
        if EVEN:
            A = tl.load(A_at + start)
            x = tl.load(x_at + start, mask=is_token, other=0.0)
        else:
            inside = (i + start < I)[None, :]
            A = tl.load(A_at + start, mask=inside, other=0.0)
            x = tl.load(x_at + start, mask=is_token & inside, other=0.0)
        sum_NR = tl.dot(x, tl.trans(A), sum_NR, input_precision="ieee")
    if _is_last(sum_NR, partials, counters, block, part, BN, BR, SPLIT):
        if SPLIT > 1:
            sum_NR = _total(partials, block, BN, BR, SPLIT)
        adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
        for g in tl.static_range(G):
            d_at = rows_SV + adapter[:, None] * V + (first_d + g * step_d + r)[None, :]
            d = tl.load(d_at, mask=is_token, other=0.0).to(tl.float32)
            tl.store(
                h_NGR + n[:, None] * (G * R) + (g * R + r)[None, :],
                (d * sum_NR).to(h_NGR.dtype.element_ty),
                mask=is_token,
            )


@triton.jit(do_not_specialize=["N", "tokens"])
def _multiply(
    x_NI, W0, W1, W2, c0, c1, c2, h_NGR, B_OR, rows_SV, index, y0, y1, y2, partials, counters,
    N, tokens, I, O0, O1, O2, x_stride, h_stride, B_stride, V, h0, h1, h2, b0, b1, b2,
    R: tl.constexpr, BIAS: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, BR: tl.constexpr, SPLIT: tl.constexpr,
    EVEN: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    # Programs that read the same part of a weight stand side by side: it is read from memory once.
    across_n = tl.cdiv(N, BN)
    which, part = tl.program_id(0) // (across_n * SPLIT), (tl.program_id(0) // across_n) % SPLIT
    n = ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    blocks0, blocks1 = tl.cdiv(O0, BO), tl.cdiv(O1, BO)
    W, c, y, O, h_at, b_at, first = W0, c0, y0, O0, h0, b0, 0
    if which >= blocks0:
        W, c, y, O, h_at, b_at, first = W1, c1, y1, O1, h1, b1, blocks0
    if which >= blocks0 + blocks1:
        W, c, y, O, h_at, b_at, first = W2, c2, y2, O2, h2, b2, blocks0 + blocks1
    o = (which - first) * BO + tl.arange(0, BO)
    is_token, is_output = (n < N)[:, None], (o < O)[None, :]
    i, r = part * BI + tl.arange(0, BI), tl.arange(0, BR)
    adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
    W_at = W + (o % O)[:, None].to(tl.int64) * I + i[None, :]  # what lies beyond the last output is never stored
    x_at = x_NI + n[:, None] * x_stride + i[None, :]
    sum_NO = tl.zeros([BN, BO], tl.float32)
    for start in range(0, tl.cdiv(I, SPLIT * BI)):
        if EVEN:
            w = tl.load(W_at, eviction_policy="evict_first")
            x = tl.load(x_at, mask=is_token, other=0.0)
        else:
            inside = (i + start * SPLIT * BI < I)[None, :]
            w = tl.load(W_at, mask=inside, other=0.0, eviction_policy="evict_first")
            x = tl.load(x_at, mask=is_token & inside, other=0.0)
        sum_NO = tl.dot(x, tl.trans(w), sum_NO, input_precision="ieee")
        W_at += SPLIT * BI
        x_at += SPLIT * BI
    if PDL:  # h is the result of the kernel before
        gdc_wait()
    if h_at >= 0:
        h_from = h_NGR + n[:, None] * h_stride + (h_at + part * (R // SPLIT) + r)[None, :]
        B_from = B_OR + (o % O)[:, None] * B_stride + (part * (R // SPLIT) + r)[None, :]
        added_NO = tl.zeros([BN, BO], tl.float32)
        for k in range(0, R // SPLIT, BR):
            h = tl.load(h_from + k, mask=is_token, other=0.0)
            added_NO = tl.dot(h, tl.trans(tl.load(B_from + k)), added_NO, input_precision="ieee")
        b_from = rows_SV + adapter[:, None] * V + (b_at + o)[None, :]
        sum_NO += added_NO * tl.load(b_from, mask=is_token & is_output, other=0.0).to(tl.float32)
    block = which * across_n + tl.program_id(0) % across_n
    if _is_last(sum_NO, partials, counters, block, part, BN, BO, SPLIT):
        if SPLIT > 1:
            sum_NO = _total(partials, block, BN, BO, SPLIT)
        if BIAS:
            sum_NO += tl.load(c + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
        tl.store(y + n[:, None] * O + o[None, :], sum_NO.to(y.dtype.element_ty), mask=is_token & is_output)


@triton.jit(do_not_specialize=["N", "tokens"])
def _add(
    h_NX, B_OR, rows_SV, index, y0, y1, y2, N, tokens, O0, O1, O2, s0, s1, s2, h_stride, B_stride, V, b0, b1, b2, d0, d1, d2,
    SCALES: tl.constexpr, R: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    across_n = tl.cdiv(N, BN)
    which, n = tl.program_id(0) // across_n, ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    blocks0, blocks1 = tl.cdiv(O0, BO), tl.cdiv(O1, BO)
    y, O, y_stride, g, b_at, d_at, first = y0, O0, s0, 0, b0, d0, 0
    if which >= blocks0:
        y, O, y_stride, g, b_at, d_at, first = y1, O1, s1, 1, b1, d1, blocks0
    if which >= blocks0 + blocks1:
        y, O, y_stride, g, b_at, d_at, first = y2, O2, s2, 2, b2, d2, blocks0 + blocks1
    o, r = (which - first) * BO + tl.arange(0, BO), tl.arange(0, BR)
    is_token, is_output = (n < N)[:, None], (o < O)[None, :]
    adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
    first_adapter = tl.min(tl.where(n < N, adapter, 1 << 30), 0)
    # As in most programs of a long prompt; λ is read once then, and not once for each token.
    is_one = tl.max(tl.where(n < N, adapter, 0), 0) == first_adapter
    h_from, B_from = (
        h_NX + n[:, None] * h_stride + ((0 if SCALES else g * R) + r)[None, :],
        B_OR + (o % O)[:, None] * B_stride + r[None, :],
    )
    y_at = y + n[:, None] * y_stride + o[None, :]
    if PDL:
        gdc_wait()
    added_NO = tl.zeros([BN, BO], tl.float32)
    for k in range(0, R, BR):
        h = tl.load(h_from + k, mask=is_token, other=0.0)
        if SCALES:
            if is_one:
                d_one = tl.load(rows_SV + first_adapter * V + d_at + k + r).to(tl.float32)
                h = (h.to(tl.float32) * d_one[None, :]).to(h_NX.dtype.element_ty)
            else:
                d_from = rows_SV + adapter[:, None] * V + (d_at + k + r)[None, :]
                d_each = tl.load(d_from, mask=is_token, other=0.0).to(tl.float32)
                h = (h.to(tl.float32) * d_each).to(h_NX.dtype.element_ty)
        added_NO = tl.dot(h, tl.trans(tl.load(B_from + k)), added_NO, input_precision="ieee")
    if is_one:
        added_NO *= tl.load(rows_SV + first_adapter * V + b_at + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
    else:
        b_from = rows_SV + adapter[:, None] * V + (b_at + o)[None, :]
        added_NO *= tl.load(b_from, mask=is_token & is_output, other=0.0).to(tl.float32)
    y_NO = tl.load(y_at, mask=is_token & is_output, other=0.0).to(tl.float32)
    tl.store(y_at, (y_NO + added_NO).to(y.dtype.element_ty), mask=is_token & is_output)


@triton.jit(do_not_specialize=["N", "tokens"])
def _accumulate(
    x_NI, W_OI, h_NR, B_OR, y_NO, c, rows_SV, index, N, tokens, O, I, V, b_at,
    R: tl.constexpr, BIAS: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BI: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    down, across = tl.cdiv(N, BN), tl.cdiv(O, BO)
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS):
        # Eight tiles of tokens share a tile of outputs, while it is in the cache.
        first = (tile // (8 * across)) * 8
        together = tl.minimum(down - first, 8)
        at_n = (first + (tile % (8 * across)) % together) * BN
        at_o = ((tile % (8 * across)) // together) * BO
        sum_NO = tl.zeros([BN, BO], tl.float32)
        for r in range(0, R, BI):
            sum_NO = tl.dot(h_NR.load([at_n, r]), B_OR.load([at_o, r]).T, sum_NO, input_precision="ieee")
        n, o = (at_n + tl.arange(0, BN)).to(tl.int64), at_o + tl.arange(0, BO)
        adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
        first_adapter = tl.min(tl.where(n < N, adapter, 1 << 30), 0)
        if tl.max(tl.where(n < N, adapter, 0), 0) == first_adapter:
            sum_NO *= tl.load(rows_SV + first_adapter * V + b_at + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
        else:
            b_from = rows_SV + adapter[:, None] * V + (b_at + o)[None, :]
            sum_NO *= tl.load(b_from, mask=(n < N)[:, None] & (o < O)[None, :], other=0.0).to(tl.float32)
        if BIAS:
            sum_NO += tl.load(c + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
        for i in range(0, I, BI):
            sum_NO = tl.dot(x_NI.load([at_n, i]), W_OI.load([at_o, i]).T, sum_NO, input_precision="ieee")
        left, right = tl.split(tl.permute(tl.reshape(sum_NO, [BN, 2, BO // 2]), [0, 2, 1]))
        y_NO.store([at_n, at_o], left.to(y_NO.dtype))  # in halves: less of the shared memory
        y_NO.store([at_n, at_o + BO // 2], right.to(y_NO.dtype))


@triton.jit(do_not_specialize=["N", "tokens"])
def _scale(
    h_NR, rows_SV, index, h_NGR, N, tokens, h_stride, V, first_d, step_d,
    G: tl.constexpr, R: tl.constexpr, BN: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    n, r = (tl.program_id(0) * BN + tl.arange(0, BN)).to(tl.int64), tl.program_id(1) * BR + tl.arange(0, BR)
    is_token = (n < N)[:, None]
    adapter = tl.load(index + n // tokens, mask=n < N, other=0).to(tl.int64)
    h = tl.load(h_NR + n[:, None] * h_stride + r[None, :], mask=is_token, other=0.0).to(tl.float32)
    for g in tl.static_range(G):
        d = tl.load(rows_SV + adapter[:, None] * V + (first_d + g * step_d + r)[None, :], mask=is_token, other=0.0).to(
            tl.float32
        )
        tl.store(
            h_NGR + n[:, None] * (G * R) + (g * R + r)[None, :],
            (d * h).to(h_NGR.dtype.element_ty),
            mask=is_token,
        )


@triton.jit
def _is_last(sum, partials, counters, block, part, BN: tl.constexpr, BM: tl.constexpr, SPLIT: tl.constexpr):
    """Whether this program is the last of its block to come here; every other has left its sum in `partials` then."""
    is_last = True
    if SPLIT > 1:
        at = tl.arange(0, BN)[:, None] * BM + tl.arange(0, BM)[None, :]
        tl.store(partials + (block * SPLIT + part).to(tl.int64) * (BN * BM) + at, sum)
        tl.debug_barrier()
        is_last = tl.atomic_add(counters + block, 1, sem="acq_rel") == SPLIT - 1
        if is_last:
            tl.store(counters + block, 0)  # as the next launch needs it
    return is_last


@triton.jit
def _total(partials, block, BN: tl.constexpr, BM: tl.constexpr, SPLIT: tl.constexpr):
    """The sums of a block's programs, added in one order, whoever came last."""
    at = tl.arange(0, BN)[:, None] * BM + tl.arange(0, BM)[None, :]
    total = tl.zeros([BN, BM], tl.float32)
    for part in tl.static_range(SPLIT):
        total += tl.load(partials + (block * SPLIT + part).to(tl.int64) * (BN * BM) + at, cache_modifier=".cg")
    return total


@cache
def _workspace(device: torch.device) -> tuple[Tensor, Tensor]:
    """Partial sums, and counters that are zero between launches. One stream at a time may use them."""
    return (
        torch.empty(_PARTIALS, dtype=torch.float32, device=device),
        torch.zeros(_COUNTERS, dtype=torch.int32, device=device),
    )


@cache
def _has_gdc() -> bool:
    """Whether a kernel may begin before the one it follows has ended (programmatic dependent launch)."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)


@cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def _tiled(matrix: Tensor, *sides: int) -> TensorDescriptor:
    return TensorDescriptor.from_tensor(matrix, list(sides))


def _fits(partials: int, counters: int) -> None:
    if partials > _PARTIALS or counters > _COUNTERS // 2:
        raise ValueError(
            f"{partials:,} partial sums of {counters:,} blocks: more than {_PARTIALS:,} and {_COUNTERS // 2:,}."
        )


def _split(tiles: Tiles, I: int, R: int) -> int:
    """Programs a sum of I inputs and R ranks can be split over: each has whole steps of both."""
    split = max(1, min(tiles.split, I // tiles.inputs))
    while R % (split * RANK_STEP):
        split //= 2
    return split


def _evenly(places: Sequence[int]) -> tuple[int, int]:
    step = places[1] - places[0] if len(places) > 1 else 0
    assert list(places) == [places[0] + g * step for g in range(len(places))], (
        "the bank lays λd of a group side by side"
    )
    return places[0], step


def _places(modules: Sequence[Module], rank: int) -> tuple[list[int], list[int]]:
    """Where h and λb of each module begin; -1 for one without an adapter."""
    at_h, at_b, adapted = [-1] * MAX_MODULES, [0] * MAX_MODULES, 0
    for g, module in enumerate(modules):
        if module.place_b is not None:
            at_h[g], at_b[g], adapted = adapted * rank, module.place_b, adapted + 1
    return at_h, at_b


def _padded(places: Sequence[int]) -> list[int]:
    return [*places, *[0] * (MAX_MODULES - len(places))]


def _three(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [*tensors, *[tensors[0]] * (MAX_MODULES - len(tensors))]


def _or(tensor: Tensor | None, other: Tensor) -> Tensor:
    return other if tensor is None else tensor
