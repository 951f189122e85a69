"""act(gate) ⊙ up of two modules with one input, whose outputs are never written: what a model's MLP goes on with.

    gate = W_0 x + λb_0 ⊙ (B h_0),   up = W_1 x + λb_1 ⊙ (B h_1)

Rounded where torch's operations round: gate, up and act(gate) are.
"""

# N tokens of a batch, I in_features, O out_features, R rank

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra.cuda import gdc_wait

from vera.nn.kernels.launching import Repeats, has_gdc, launch
from vera.nn.kernels.mixed.accumulating import processors, tiled
from vera.nn.kernels.mixed.batch import Module, Packed, Tiles, either
from vera.nn.kernels.mixed.vectors import adapters_of, lambdas, scaled


class Activation(IntEnum):
    """As the kernels are told it."""

    SILU = 0
    GELU = 1
    GELU_TANH = 2


def add_gated(
    gate: Tensor, up: Tensor, h: Tensor, B_OR: Tensor, packed: Packed, places_b: Sequence[int], activation: Activation,
    tiles: Tiles, *, known: Repeats | None = None,
) -> Tensor:  # fmt: skip
    """act(gate + λb_0 ⊙ (B h_0)) ⊙ (up + λb_1 ⊙ (B h_1)), (N, O), of the base's products `gate` and `up`.

    h is h_0 and h_1 side by side, (N, 2·R).
    """
    (N, O), R = gate.shape, B_OR.shape[1]
    y_NO = gate.new_empty(N, O)
    launch(
        _add_gated, (triton.cdiv(O, tiles.outputs) * triton.cdiv(N, tiles.tokens),),
        (h, B_OR, packed.rows, packed.index, gate, up, y_NO, N, packed.tokens, O, gate.stride(0), up.stride(0),
         h.stride(0), B_OR.stride(0), packed.rows.stride(0), *places_b),
        {"ACTIVATION": int(activation), "R": R, "BN": tiles.tokens, "BO": tiles.outputs,
         "BR": math.gcd(R, tiles.inputs), "EARLY": tiles.early, "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, 4, 5, 6),
    )  # fmt: skip
    return y_NO


def multiply_gated(
    x_NI: Tensor, gate: Module, up: Module, h_NGR: Tensor, B_OR: Tensor, packed: Packed, activation: Activation,
    tiles: Tiles, *, known: Repeats | None = None,
) -> Tensor:  # fmt: skip
    """The same, (N, O), with the base's products made in the same launch. No sum is split."""
    (N, I), O, R = x_NI.shape, len(gate.weight), B_OR.shape[1]
    y_NO = x_NI.new_empty(N, O)
    launch(
        _multiply_gated, (triton.cdiv(O, tiles.outputs) * triton.cdiv(N, tiles.tokens),),
        (x_NI, gate.weight, up.weight, either(gate.bias, x_NI), either(up.bias, x_NI), h_NGR, B_OR, packed.rows,
         packed.index, y_NO, N, packed.tokens, I, O, x_NI.stride(0), h_NGR.stride(0), B_OR.stride(0),
         packed.rows.stride(0), gate.place_b or 0, up.place_b or 0),
        {"BIAS_0": gate.bias is not None, "BIAS_1": up.bias is not None, "ACTIVATION": int(activation), "R": R,
         "BN": tiles.tokens, "BO": tiles.outputs, "BI": tiles.inputs, "BR": math.gcd(R, 64),
         "EVEN": I % tiles.inputs == 0, "EARLY": tiles.early, "PDL": has_gdc()},
        warps=tiles.warps, stages=tiles.stages, overlaps=has_gdc(), known=known, places=(0, 5, 9),
    )  # fmt: skip
    return y_NO


def accumulate_gated(
    x_NI: Tensor, gate: Module, up: Module, h_NGR: Tensor, B_OR: Tensor, packed: Packed, activation: Activation, tiles: Tiles
) -> Tensor:  # fmt: skip
    """The same for many tokens, through descriptors (TMA); the rank is a multiple of `tiles.inputs`."""
    N, O = len(x_NI), len(gate.weight)
    y_NO = x_NI.new_empty(N, O)
    sides = tiles.tokens, tiles.outputs, tiles.inputs
    programs = min(processors(x_NI.device), triton.cdiv(N, sides[0]) * triton.cdiv(O, sides[1]))
    with torch.cuda.device_of(x_NI):  # Triton launches on the current device
        _accumulate_gated[(programs,)](
            tiled(x_NI, sides[0], sides[2]), tiled(gate.weight, sides[1], sides[2]), tiled(up.weight, sides[1], sides[2]),
            tiled(h_NGR, sides[0], sides[2]), tiled(B_OR[:O], sides[1], sides[2]), tiled(y_NO, sides[0], sides[1] // 2),
            either(gate.bias, x_NI), either(up.bias, x_NI), packed.rows, packed.index, N, packed.tokens, O, x_NI.shape[1],
            packed.rows.stride(0), gate.place_b, up.place_b, BIAS_0=gate.bias is not None, BIAS_1=up.bias is not None,
            ACTIVATION=int(activation), R=B_OR.shape[1], BN=sides[0], BO=sides[1], BI=sides[2], PROGRAMS=programs,
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
    return y_NO


@triton.jit
def _gated(gate, up, dtype: tl.constexpr, ACTIVATION: tl.constexpr):
    gate, up = gate.to(dtype).to(tl.float32), up.to(dtype).to(tl.float32)
    if ACTIVATION == 0:
        active = gate / (1.0 + tl.exp(-gate))
    elif ACTIVATION == 1:
        active = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    else:  # 1 + tanh(u) is 2 / (1 + exp(-2u)), and 2 √(2/π) is the constant
        active = gate / (1.0 + tl.exp(-1.5957691216057308 * (gate + 0.044715 * gate * gate * gate)))
    return (active.to(dtype).to(tl.float32) * up).to(dtype)


@triton.jit(do_not_specialize=["N", "tokens"])
def _add_gated(
    h_NX, B_OR, rows_SV, index, gate, up, y_NO, N, tokens, O, gate_stride, up_stride, h_stride, B_stride, V, b0, b1,
    ACTIVATION: tl.constexpr, R: tl.constexpr, BN: tl.constexpr, BO: tl.constexpr, BR: tl.constexpr,
    EARLY: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    across_n = tl.cdiv(N, BN)
    n = ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    o, r = (tl.program_id(0) // across_n) * BO + tl.arange(0, BO), tl.arange(0, BR)
    is_token, is_output = (n < N)[:, None], o < O
    adapter, first, is_one = adapters_of(index, n, N, tokens)
    h_from, B_from = h_NX + n[:, None] * h_stride + r[None, :], B_OR + (o % O)[:, None] * B_stride + r[None, :]
    gate_at, up_at = gate + n[:, None] * gate_stride + o[None, :], up + n[:, None] * up_stride + o[None, :]
    is_here = is_token & is_output[None, :]
    if EARLY:  # λ is nobody's result
        b_0 = lambdas(rows_SV, adapter, first, is_one, is_token, b0 + o, is_output, V)
        b_1 = lambdas(rows_SV, adapter, first, is_one, is_token, b1 + o, is_output, V)
    if PDL:
        gdc_wait()
    if EARLY:
        y_0, y_1 = tl.load(gate_at, mask=is_here, other=0.0), tl.load(up_at, mask=is_here, other=0.0)
    sum0_NO, sum1_NO = tl.zeros([BN, BO], tl.float32), tl.zeros([BN, BO], tl.float32)
    for k in range(0, R, BR):
        B = tl.trans(tl.load(B_from + k))
        h0 = tl.load(h_from + k, mask=is_token, other=0.0)
        h1 = tl.load(h_from + R + k, mask=is_token, other=0.0)
        sum0_NO = tl.dot(h0, B, sum0_NO, input_precision="ieee")
        sum1_NO = tl.dot(h1, B, sum1_NO, input_precision="ieee")
    if EARLY:
        sum0_NO = sum0_NO * b_0.to(tl.float32) + y_0.to(tl.float32)
        sum1_NO = sum1_NO * b_1.to(tl.float32) + y_1.to(tl.float32)
    else:
        sum0_NO = scaled(sum0_NO, rows_SV, adapter, first, is_one, is_token, b0 + o, is_output, V)
        sum0_NO += tl.load(gate_at, mask=is_here, other=0.0).to(tl.float32)
        sum1_NO = scaled(sum1_NO, rows_SV, adapter, first, is_one, is_token, b1 + o, is_output, V)
        sum1_NO += tl.load(up_at, mask=is_here, other=0.0).to(tl.float32)
    y = _gated(sum0_NO, sum1_NO, y_NO.dtype.element_ty, ACTIVATION)
    tl.store(y_NO + n[:, None] * O + o[None, :], y, mask=is_here)


@triton.jit(do_not_specialize=["N", "tokens"])
def _multiply_gated(
    x_NI, W0, W1, c0, c1, h_NGR, B_OR, rows_SV, index, y_NO, N, tokens, I, O, x_stride, h_stride, B_stride, V, b0, b1,
    BIAS_0: tl.constexpr, BIAS_1: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr, BN: tl.constexpr,
    BO: tl.constexpr, BI: tl.constexpr, BR: tl.constexpr, EVEN: tl.constexpr, EARLY: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    # Programs that read the same part of a weight stand side by side: it is read from memory once.
    across_n = tl.cdiv(N, BN)
    n = ((tl.program_id(0) % across_n) * BN + tl.arange(0, BN)).to(tl.int64)
    o = (tl.program_id(0) // across_n) * BO + tl.arange(0, BO)
    is_token, is_output, i, r = (n < N)[:, None], o < O, tl.arange(0, BI), tl.arange(0, BR)
    adapter, first, is_one = adapters_of(index, n, N, tokens)
    at = (o % O)[:, None].to(tl.int64) * I + i[None, :]  # what lies beyond the last output is never stored
    W0_at, W1_at, x_at = W0 + at, W1 + at, x_NI + n[:, None] * x_stride + i[None, :]
    if EARLY:
        b_0 = lambdas(rows_SV, adapter, first, is_one, is_token, b0 + o, is_output, V)
        b_1 = lambdas(rows_SV, adapter, first, is_one, is_token, b1 + o, is_output, V)
    sum0_NO, sum1_NO = tl.zeros([BN, BO], tl.float32), tl.zeros([BN, BO], tl.float32)
    for start in range(0, I, BI):
        if EVEN:
            w0 = tl.load(W0_at + start, eviction_policy="evict_first")
            w1 = tl.load(W1_at + start, eviction_policy="evict_first")
            x = tl.load(x_at + start, mask=is_token, other=0.0)
        else:
            inside = (i + start < I)[None, :]
            w0 = tl.load(W0_at + start, mask=inside, other=0.0, eviction_policy="evict_first")
            w1 = tl.load(W1_at + start, mask=inside, other=0.0, eviction_policy="evict_first")
            x = tl.load(x_at + start, mask=is_token & inside, other=0.0)
        sum0_NO = tl.dot(x, tl.trans(w0), sum0_NO, input_precision="ieee")
        sum1_NO = tl.dot(x, tl.trans(w1), sum1_NO, input_precision="ieee")
    if PDL:  # h is the result of the kernel before
        gdc_wait()
    h_from, B_from = h_NGR + n[:, None] * h_stride + r[None, :], B_OR + (o % O)[:, None] * B_stride + r[None, :]
    added0_NO, added1_NO = tl.zeros([BN, BO], tl.float32), tl.zeros([BN, BO], tl.float32)
    for k in range(0, R, BR):
        B = tl.trans(tl.load(B_from + k))
        h0 = tl.load(h_from + k, mask=is_token, other=0.0)
        h1 = tl.load(h_from + R + k, mask=is_token, other=0.0)
        added0_NO = tl.dot(h0, B, added0_NO, input_precision="ieee")
        added1_NO = tl.dot(h1, B, added1_NO, input_precision="ieee")
    if EARLY:
        sum0_NO += added0_NO * b_0.to(tl.float32)
        sum1_NO += added1_NO * b_1.to(tl.float32)
    else:
        sum0_NO += scaled(added0_NO, rows_SV, adapter, first, is_one, is_token, b0 + o, is_output, V)
        sum1_NO += scaled(added1_NO, rows_SV, adapter, first, is_one, is_token, b1 + o, is_output, V)
    if BIAS_0:
        sum0_NO += tl.load(c0 + o, mask=is_output, other=0.0).to(tl.float32)[None, :]
    if BIAS_1:
        sum1_NO += tl.load(c1 + o, mask=is_output, other=0.0).to(tl.float32)[None, :]
    y = _gated(sum0_NO, sum1_NO, y_NO.dtype.element_ty, ACTIVATION)
    tl.store(y_NO + n[:, None] * O + o[None, :], y, mask=is_token & is_output[None, :])


@triton.jit(do_not_specialize=["N", "tokens"])
def _accumulate_gated(
    x_NI, W0_OI, W1_OI, h_NGR, B_OR, y_NO, c0, c1, rows_SV, index, N, tokens, O, I, V, b0, b1,
    BIAS_0: tl.constexpr, BIAS_1: tl.constexpr, ACTIVATION: tl.constexpr, R: tl.constexpr, BN: tl.constexpr,
    BO: tl.constexpr, BI: tl.constexpr, PROGRAMS: tl.constexpr,
):  # fmt: skip
    down, across = tl.cdiv(N, BN), tl.cdiv(O, BO)
    for tile in tl.range(tl.program_id(0), down * across, PROGRAMS):
        # Eight tiles of tokens share a tile of outputs, while it is in the cache.
        first_down = (tile // (8 * across)) * 8
        together = tl.minimum(down - first_down, 8)
        at_n = (first_down + (tile % (8 * across)) % together) * BN
        at_o = ((tile % (8 * across)) // together) * BO
        sum0_NO, sum1_NO = tl.zeros([BN, BO], tl.float32), tl.zeros([BN, BO], tl.float32)
        for r in range(0, R, BI):
            B = B_OR.load([at_o, r]).T
            sum0_NO = tl.dot(h_NGR.load([at_n, r]), B, sum0_NO, input_precision="ieee")
            sum1_NO = tl.dot(h_NGR.load([at_n, R + r]), B, sum1_NO, input_precision="ieee")
        n, o = (at_n + tl.arange(0, BN)).to(tl.int64), at_o + tl.arange(0, BO)
        is_token, is_output = (n < N)[:, None], o < O
        adapter, first, is_one = adapters_of(index, n, N, tokens)
        sum0_NO = scaled(sum0_NO, rows_SV, adapter, first, is_one, is_token, b0 + o, is_output, V)
        sum1_NO = scaled(sum1_NO, rows_SV, adapter, first, is_one, is_token, b1 + o, is_output, V)
        if BIAS_0:
            sum0_NO += tl.load(c0 + o, mask=is_output, other=0.0).to(tl.float32)[None, :]
        if BIAS_1:
            sum1_NO += tl.load(c1 + o, mask=is_output, other=0.0).to(tl.float32)[None, :]
        for i in range(0, I, BI):
            x = x_NI.load([at_n, i])
            sum0_NO = tl.dot(x, W0_OI.load([at_o, i]).T, sum0_NO, input_precision="ieee")
            sum1_NO = tl.dot(x, W1_OI.load([at_o, i]).T, sum1_NO, input_precision="ieee")
        y = _gated(sum0_NO, sum1_NO, y_NO.dtype, ACTIVATION)
        left, right = tl.split(tl.permute(tl.reshape(y, [BN, 2, BO // 2]), [0, 2, 1]))
        y_NO.store([at_n, at_o], left)  # in halves: less of the shared memory
        y_NO.store([at_n, at_o + BO // 2], right)
