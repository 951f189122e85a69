"""The base's products and what the adapters add to them, in one launch."""

# N tokens of a batch, I in_features, O out_features, R rank, G modules of the group, S adapters (rows of `Packed.rows`)

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from vera.nn.kernels import MAX_MODULES
from vera.nn.kernels.launching import Repeats, has_gdc, launch
from vera.nn.kernels.mixed.batch import Module, Packed, Tiles, biases_of, places, split_of, three
from vera.nn.kernels.mixed.sums import HALF_THE_COUNTERS, check_fits, is_last, total, workspace


def multiply_adapted(
    x_NI: Tensor, modules: Sequence[Module], h_NGR: Tensor, B_OR: Tensor, packed: Packed, tiles: Tiles, *,
    known: Repeats | None = None,
) -> list[Tensor]:  # fmt: skip
    """W x + bias, and for adapted modules λb ⊙ (B h) more, (N, O) each; h is that of the adapted ones, in order."""
    (N, I), R, count = x_NI.shape, B_OR.shape[1], len(modules)
    y = [torch.empty(N, len(m.weight), dtype=x_NI.dtype, device=x_NI.device) for m in modules]
    outputs = [len(m.weight) for m in modules] + [0] * (MAX_MODULES - count)
    split = split_of(tiles, I, R)
    blocks = sum(triton.cdiv(O, tiles.outputs) for O in outputs) * triton.cdiv(N, tiles.tokens)
    partials, counters = workspace(x_NI.device)
    if split > 1:
        check_fits(blocks * split * tiles.tokens * tiles.outputs, blocks)
    at_h, at_b = places(modules, R)
    weights, biases = three([m.weight for m in modules]), three(biases_of(modules, x_NI))
    launch(
        _multiply, (blocks * split,),
        (x_NI, *weights, *biases, h_NGR, B_OR, packed.rows, packed.index, *three(y), partials, counters[HALF_THE_COUNTERS :],
         N, packed.tokens, I, *outputs, x_NI.stride(0), h_NGR.stride(0), B_OR.stride(0), packed.rows.stride(0), *at_h, *at_b),
        {"R": R, "BIAS": any(m.bias is not None for m in modules), "BN": tiles.tokens, "BO": tiles.outputs, "BI": tiles.inputs,
         "BR": math.gcd(R // split, 64), "SPLIT": split, "EVEN": I % (split * tiles.inputs) == 0, "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, 7, *range(11, 11 + count)),
    )  # fmt: skip
    return y


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
    b_from = rows_SV + adapter[:, None] * V + (b_at + o)[None, :]
    is_adapted = is_token & is_output & (h_at >= 0)
    b = tl.load(b_from, mask=is_adapted, other=0.0)  # nobody's result
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
            B = tl.load(B_from + k)
            added_NO = tl.dot(h, tl.trans(B), added_NO, input_precision="ieee")
        sum_NO += added_NO * b.to(tl.float32)
    block = which * across_n + tl.program_id(0) % across_n
    if is_last(sum_NO, partials, counters, block, part, BN, BO, SPLIT):
        if SPLIT > 1:
            sum_NO = total(partials, block, BN, BO, SPLIT)
        if BIAS:
            sum_NO += tl.load(c + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
        tl.store(y + n[:, None] * O + o[None, :], sum_NO.to(y.dtype.element_ty), mask=is_token & is_output)
