"""Products of many tokens whose sum begins with what the adapters add."""

# N tokens of a batch, I in_features, O out_features, R rank, G modules of the group, S adapters (rows of `Packed.rows`)

from __future__ import annotations

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from vera.nn.kernels.mixed.batch import Module, Packed, Tiles, either
from vera.nn.kernels.mixed.vectors import adapters_of, scaled


def accumulate_adapted(
    x_NI: Tensor, module: Module, h_NR: Tensor, B_OR: Tensor, packed: Packed, tiles: Tiles
) -> Tensor:
    """W x + bias + λb ⊙ (B h) of one module, (N, O), for many tokens: the sum of the base begins with the adapter's.

    h is that of the module, whose rank is a multiple of `tiles.inputs`. Tiles go through descriptors (TMA).
    """
    N, O = len(x_NI), len(module.weight)
    y_NO = torch.empty(N, O, dtype=x_NI.dtype, device=x_NI.device)
    sides = tiles.tokens, tiles.outputs, tiles.inputs
    programs = min(processors(x_NI.device), triton.cdiv(N, sides[0]) * triton.cdiv(O, sides[1]))
    with torch.cuda.device_of(x_NI):  # Triton launches on the current device
        _accumulate[(programs,)](
            tiled(x_NI, sides[0], sides[2]), tiled(module.weight, sides[1], sides[2]), tiled(h_NR, sides[0], sides[2]),
            tiled(B_OR[:O], sides[1], sides[2]), tiled(y_NO, sides[0], sides[1] // 2), either(module.bias, x_NI), packed.rows,
            packed.index, N, packed.tokens, O, x_NI.shape[1], packed.rows.stride(0), module.place_b,
            R=B_OR.shape[1], BIAS=module.bias is not None, BN=sides[0], BO=sides[1], BI=sides[2], PROGRAMS=programs,
            num_warps=tiles.warps, num_stages=tiles.stages,
        )  # fmt: skip
    return y_NO


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
        is_token, is_output = (n < N)[:, None], o < O
        adapter, first_adapter, is_one = adapters_of(index, n, N, tokens)
        sum_NO = scaled(sum_NO, rows_SV, adapter, first_adapter, is_one, is_token, b_at + o, is_output, V)
        if BIAS:
            sum_NO += tl.load(c + o, mask=o < O, other=0.0).to(tl.float32)[None, :]
        for i in range(0, I, BI):
            sum_NO = tl.dot(x_NI.load([at_n, i]), W_OI.load([at_o, i]).T, sum_NO, input_precision="ieee")
        left, right = tl.split(tl.permute(tl.reshape(sum_NO, [BN, 2, BO // 2]), [0, 2, 1]))
        y_NO.store([at_n, at_o], left.to(y_NO.dtype))  # in halves: less of the shared memory
        y_NO.store([at_n, at_o + BO // 2], right.to(y_NO.dtype))


@cache
def processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def tiled(matrix: Tensor, *sides: int) -> TensorDescriptor:
    return TensorDescriptor.from_tensor(matrix, list(sides))
