"""The forms of a group's product that run in kernels, and how they may cut their work."""

# N tokens of a batch, I in_features, O out_features, R rank

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from vera.nn.kernels import RANK_STEP, mixed
from vera.nn.kernels.mixed import Packed, Tiles
from vera.nn.serving.choosing import LONG
from vera.nn.serving.repeating import Known

if TYPE_CHECKING:
    from vera.nn.serving.products import GroupProduct
    from vera.nn.serving.stacking import Stack

MANY = 128  # tokens from which torch's own product makes A x quicker

# What was quick on an H100 for some shape of Llama-2-7B, of some sixty that were tried (docs/performance.md). Tokens a program takes are
# those of the batch, up to 64 or 128.
_FEW_JOINED = [
    Tiles(16, 32, 128, 1, 4, 5), Tiles(16, 128, 128, 1, 4, 3), Tiles(16, 32, 128, 2, 4, 5), Tiles(16, 32, 64, 2, 4, 6),
]  # fmt: skip
_SOME_JOINED = [Tiles(64, 64, 128, 1, 4, 3), Tiles(64, 128, 128, 1, 8, 4), Tiles(64, 64, 64, 2, 4, 6)]
_MANY_JOINED = [Tiles(128, 128, 64, 1, 8, 4), Tiles(128, 256, 64, 1, 8, 3)]
_ACCUMULATED = [Tiles(128, 256, 64, 1, 8, 3), Tiles(128, 256, 64, 1, 8, 4), Tiles(128, 128, 64, 1, 8, 4)]
_PROJECTING = Tiles(16, RANK_STEP, 128, 8, 4, 3)
_PROJECTING_MORE = replace(_PROJECTING, tokens=32)
_PROJECTING_RANKS = Tiles(64, RANK_STEP, 128, 4, 4, 3)
_MANY_RANKS = 512
_ADDED = [
    Tiles(64, 64, 64, 1, 4, 4, early=True), Tiles(64, 32, 128, 1, 4, 4, early=True),
    Tiles(32, 32, 128, 1, 4, 4, early=True), Tiles(64, 128, 64, 1, 8, 4, early=True),
]  # fmt: skip
_MANY_ADDED = [Tiles(64, 128, 64, 1, 4, 3), Tiles(64, 64, 128, 1, 4, 2), Tiles(64, 64, 64, 1, 4, 3, early=True)]
_LONG_ADDED = [Tiles(128, 256, 64, 1, 8, 3), Tiles(64, 128, 64, 1, 8, 3), Tiles(128, 64, 64, 1, 8, 2)]


# As many ranks as a program holds at once stand for the inputs of a step.
_AT_ONCE = [Tiles(16, 64, 256, 1, 4, 1), Tiles(32, 32, 256, 1, 4, 1), Tiles(64, 32, 256, 1, 4, 1)]
_MANY_AT_ONCE = [Tiles(64, 128, 256, 1, 8, 1)]


def tiles_at_once(tokens: int) -> list[Tiles]:
    """For what is added to products that are there in the launch that scales A x; none for prompts, whose tokens are few adapters'."""
    if tokens > 64:
        return _MANY_AT_ONCE if tokens < LONG else []
    return list(dict.fromkeys(replace(tiles, tokens=min(tiles.tokens, block_of(tokens))) for tiles in _AT_ONCE))


def tiles_added(tokens: int) -> list[Tiles]:
    """For what is added to products that are there."""
    if tokens > 64:
        return _MANY_ADDED if tokens < LONG else [*_MANY_ADDED, *_LONG_ADDED]
    return list(dict.fromkeys(replace(tiles, tokens=min(tiles.tokens, block_of(tokens))) for tiles in _ADDED))


def tiles_joined(tokens: int) -> list[Tiles]:
    if tokens > 64:
        return _MANY_JOINED
    return [replace(tiles, tokens=block_of(tokens)) for tiles in (_FEW_JOINED if tokens <= 16 else _SOME_JOINED)]


def tiles_accumulated(tokens: int, sizes: Sequence[int]) -> list[Tiles]:
    """None for short prompts, nor when the rank or one of the outputs, which are `sizes`, begins rows anywhere."""
    return _ACCUMULATED if tokens >= LONG and not any(size % _ACCUMULATED[0].inputs for size in sizes) else []


def beside(product: GroupProduct, tiles: Tiles, known: Known, x_BTI: Tensor) -> list[Tensor]:
    """Every member's own product, and the adapters' added to it. What few tokens need for that is made meanwhile."""
    x_NI, packed = rows_of(x_BTI), packed_of(product, x_BTI)
    h_NGR, y = projected_beside(product, x_BTI, known)
    there = [rows_of(part) for part, member in zip(y, product.members, strict=True) if member.places]
    _, B_OR = product.pair(x_NI.dtype, x_NI.shape[1])
    mixed.add_adapted(there, h_NGR, B_OR, packed, product.places_b, tiles, known=known.launches)
    return y


def joined(product: GroupProduct, tiles: Tiles, known: Known, x_BTI: Tensor) -> list[Tensor]:
    """All members' products, base and adapters, in one launch."""
    if known.serves(product, x_BTI):
        return _joined_again(product, known, x_BTI)
    x_NI, packed = rows_of(x_BTI), packed_of(product, x_BTI)
    h_NGR = projected(product, x_NI, packed, known)
    _, B_OR = product.pair(x_NI.dtype, x_NI.shape[1])
    y = mixed.multiply_adapted(x_NI, modules_of(product), h_NGR, B_OR, packed, tiles, known=known.launches)
    if len(x_NI) < MANY:
        known.keep(product, x_BTI)
    return [part.view(*x_BTI.shape[:-1], -1) for part in y]


def accumulated(product: GroupProduct, tiles: Tiles, known: Known, x_BTI: Tensor) -> list[Tensor]:
    """For long prompts: each adapted member's product in one launch that begins with what its adapters add."""
    x_NI, packed = rows_of(x_BTI).contiguous(), packed_of(product, x_BTI)
    h_NGR = projected(product, x_NI, packed, known)
    _, B_OR = product.pair(x_NI.dtype, x_NI.shape[1])
    h = iter(torch.split(h_NGR, product.rank, 1))
    return [
        mixed.accumulate_adapted(x_NI, module, next(h), B_OR, packed, tiles).view(*x_BTI.shape[:-1], -1)
        if module.place_b is not None
        else member.forward(x_BTI)
        for member, module in zip(product.members, modules_of(product), strict=True)
    ]


def _joined_again(product: GroupProduct, known: Known, x_BTI: Tensor) -> list[Tensor]:
    x_at, h_NGR = x_BTI.data_ptr(), projected_again(product, known, x_BTI)
    y = [x_BTI.new_empty((*x_BTI.shape[:-1], size)) for size in product.sizes]
    known.launches["_multiply"](x_at, h_NGR.data_ptr(), *[part.data_ptr() for part in y])
    return y


def stacked(product: GroupProduct, tiles: Tiles, known: Known, x_BTI: Tensor) -> list[Tensor]:
    """All members' products and A x in one product of torch's, and the adapters' added to it."""
    if product.stack is None or not product.stack.is_whole():
        return product.plain(x_BTI)
    *y, Ax_BTR = stacked_products(product.stack, x_BTI)
    read, written = separated(product, y)
    if known.serves(product, x_BTI):
        h_NGR = scaled_again(product, known, Ax_BTR)
        known.launches["_add"](h_NGR.data_ptr(), *[part.data_ptr() for part in (*read, *written)])
        return y
    _, B_OR = product.pair(x_BTI.dtype, x_BTI.shape[-1])
    packed = packed_of(product, x_BTI)
    h_NGR = mixed.scale(rows_of(Ax_BTR), packed, product.places_d, known=known.launches)
    read, written = ([rows_of(part) for part in parts] for parts in (read, written))
    mixed.add_adapted(read, h_NGR, B_OR, packed, product.places_b, tiles, out=written, known=known.launches)
    known.keep(product, x_BTI)
    return y


def stacked_at_once(product: GroupProduct, tiles: Tiles, known: Known, x_BTI: Tensor) -> list[Tensor]:
    """The same with one launch after the product: every program scales what it takes of A x."""
    if product.stack is None or not product.stack.is_whole():
        return product.plain(x_BTI)
    *y, Ax_BTR = stacked_products(product.stack, x_BTI)
    read, written = separated(product, y)
    if known.serves(product, x_BTI):
        known.launches["_scale_and_add"](Ax_BTR.data_ptr(), *[part.data_ptr() for part in (*read, *written)])
        return y
    _, B_OR = product.pair(x_BTI.dtype, x_BTI.shape[-1])
    packed = packed_of(product, x_BTI)
    read, written = ([rows_of(part) for part in parts] for parts in (read, written))
    mixed.scale_and_add(
        read, rows_of(Ax_BTR), B_OR, packed, product.places_d, product.places_b, tiles, out=written, known=known.launches
    )  # fmt: skip
    known.keep(product, x_BTI)
    return y


def stacked_products(stack: Stack, x_BTI: Tensor) -> tuple[Tensor, ...]:
    return parts_of(functional.linear(x_BTI, stack.W_SI, stack.bias_S), stack.sizes)


def separated(product: GroupProduct, y: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The adapted members' parts of a stack's product, and in their places in `y` what is to be written: tensors of their own, for what
    the model does next with a part of rows takes twice as long."""
    read, written = [], []
    for place, member in enumerate(product.members):
        if member.places:
            read.append(y[place])
            y[place] = y[place].new_empty(y[place].shape)
            written.append(y[place])
    return read, written


def scaled_again(product: GroupProduct, known: Known, Ax_BTR: Tensor) -> Tensor:
    h_NGR = Ax_BTR.new_empty((Ax_BTR.numel() // Ax_BTR.shape[-1], product.h_columns))
    known.launches["_scale"](Ax_BTR.data_ptr(), h_NGR.data_ptr())
    return h_NGR


def modules_of(product: GroupProduct) -> list[mixed.Module]:
    return [
        mixed.Module(m.module.weight, m.module.bias, m.places.lambda_b if m.places else None)  # type: ignore[arg-type]  # of nn.Linear
        for m in product.members
    ]


def projected(product: GroupProduct, x_NI: Tensor, packed: Packed, known: Known) -> Tensor:
    """λd ⊙ (A x) of every adapted member, side by side."""
    h_NGR = x_NI.new_empty(len(x_NI), product.h_columns)
    _project(product, x_NI, packed, h_NGR, known)
    return h_NGR


def projected_again(product: GroupProduct, known: Known, x_BTI: Tensor) -> Tensor:
    h_NGR = x_BTI.new_empty((x_BTI.numel() // x_BTI.shape[-1], product.h_columns))
    known.launches["_project"](x_BTI.data_ptr(), h_NGR.data_ptr())
    return h_NGR


def projected_beside(product: GroupProduct, x_BTI: Tensor, known: Known) -> tuple[Tensor, list[Tensor]]:
    """The same, and every member's own product, made meanwhile."""
    x_NI = rows_of(x_BTI)
    here, side = torch.cuda.current_stream(x_BTI.device), _side_of(x_BTI.device)
    h_NGR = x_NI.new_empty(len(x_NI), product.h_columns)  # allocated here, so it is freed here
    side.wait_stream(here)
    with torch.cuda.stream(side):
        _project(product, x_NI, packed_of(product, x_BTI), h_NGR, known)
    y = [member.forward(x_BTI) for member in product.members]
    here.wait_stream(side)
    return h_NGR, y


def _project(product: GroupProduct, x_NI: Tensor, packed: Packed, h_NGR: Tensor, known: Known) -> None:
    A_RI, _ = product.pair(x_NI.dtype, x_NI.shape[1])
    if len(x_NI) >= MANY:
        mixed.scale(functional.linear(x_NI, A_RI), packed, product.places_d, out=h_NGR)
    else:
        tiles = _tiles_projecting(len(x_NI), len(A_RI))
        mixed.project(x_NI, A_RI, packed, product.places_d, tiles, out=h_NGR, known=known.launches)


def _tiles_projecting(tokens: int, rank: int) -> Tiles:
    if tokens <= 16:
        return _PROJECTING
    return _PROJECTING_RANKS if rank >= _MANY_RANKS else _PROJECTING_MORE


@cache
def _side_of(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch leaves it unannotated


def packed_of(product: GroupProduct, x_BTI: Tensor) -> Packed:
    tokens = x_BTI.numel() // (x_BTI.shape[0] * x_BTI.shape[-1])
    return Packed(product.packing.rows_SV, product.index, tokens)


def parts_of(y: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    return torch.split_with_sizes(y, sizes, -1)  # `torch.split` takes 5 µs more to find this out


def rows_of(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def block_of(tokens: int) -> int:
    """Tokens a program takes at once: 16, which a matrix instruction takes at least, 32 or 64."""
    return min(64, max(16, 1 << (tokens - 1).bit_length()))
