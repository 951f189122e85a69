"""The forms of act(gate x) ⊙ up x that run in kernels, and how they may cut their work. They are those of `forms`, gated."""

# N tokens of a batch, R rank

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from torch import Tensor

from vera.nn.kernels import mixed
from vera.nn.kernels.mixed import Activation, Tiles
from vera.nn.serving import forms
from vera.nn.serving.products import GroupProduct
from vera.nn.serving.repeating import Known

if TYPE_CHECKING:
    from vera.nn.serving.gated import Gated

_FEW_JOINED = [
    Tiles(16, 32, 128, 1, 4, 5, early=True), Tiles(16, 64, 128, 1, 4, 4, early=True), Tiles(16, 32, 128, 1, 4, 3, early=True),
]  # fmt: skip
_SOME_JOINED = [
    Tiles(64, 32, 128, 1, 4, 2, early=True), Tiles(64, 64, 128, 1, 4, 2, early=True),
    Tiles(64, 64, 64, 1, 4, 4, early=True), Tiles(64, 128, 64, 1, 8, 4, early=True),
]  # fmt: skip
_MANY_JOINED = [Tiles(128, 64, 64, 1, 8, 4, early=True), Tiles(128, 64, 128, 1, 8, 3, early=True)]
_ACCUMULATED = [Tiles(128, 128, 64, 1, 8, 4), Tiles(128, 128, 64, 1, 8, 3)]
_WIDEST_ADDED = 128  # outputs: a program has two sums of them


def forms_of(product: GroupProduct, activation: str, x_BTI: Tensor) -> list[Gated]:
    """Every way to compute it for inputs like these."""
    tokens, kind = x_BTI.numel() // x_BTI.shape[-1], Activation[activation.upper()]
    found: list[Gated] = [partial(beside, product, kind, tiles, Known()) for tiles in tiles_added(tokens)]
    if product.is_joinable(x_BTI):
        found += [partial(joined, product, kind, tiles, Known()) for tiles in tiles_joined(tokens)]
        sizes = [product.rank, product.members[0].out_features]
        found += [partial(accumulated, product, kind, tiles, Known()) for tiles in tiles_accumulated(tokens, sizes)]
    if product.stack is not None:
        found += [partial(stacked, product, kind, tiles, Known()) for tiles in tiles_added(tokens)]
    return found


def tiles_added(tokens: int) -> list[Tiles]:
    return [tiles for tiles in forms.tiles_added(tokens) if tiles.outputs <= _WIDEST_ADDED]


def tiles_joined(tokens: int) -> list[Tiles]:
    if tokens > 64:
        return _MANY_JOINED
    return [replace(tiles, tokens=forms.block_of(tokens)) for tiles in (_FEW_JOINED if tokens <= 16 else _SOME_JOINED)]


def tiles_accumulated(tokens: int, sizes: list[int]) -> list[Tiles]:
    return _ACCUMULATED if forms.tiles_accumulated(tokens, sizes) else []


def beside(product: GroupProduct, kind: Activation, tiles: Tiles, known: Known, x_BTI: Tensor) -> Tensor:
    x_NI, packed = forms.rows_of(x_BTI), forms.packed_of(product, x_BTI)
    h_NGR, (gate, up) = forms.projected_beside(product, x_BTI, known)
    _, B_OR = product.pair(x_NI.dtype, x_NI.shape[1])
    y_NO = mixed.add_gated(
        forms.rows_of(gate), forms.rows_of(up), h_NGR, B_OR, packed, product.places_b, kind, tiles, known=known.launches
    )
    return y_NO.view(*x_BTI.shape[:-1], -1)


def joined(product: GroupProduct, kind: Activation, tiles: Tiles, known: Known, x_BTI: Tensor) -> Tensor:
    if known.serves(product, x_BTI):
        return _joined_again(product, known, x_BTI)
    x_NI, packed = forms.rows_of(x_BTI), forms.packed_of(product, x_BTI)
    h_NGR = forms.projected(product, x_NI, packed, known)
    _, B_OR = product.pair(x_NI.dtype, x_NI.shape[1])
    gate, up = forms.modules_of(product)
    y_NO = mixed.multiply_gated(x_NI, gate, up, h_NGR, B_OR, packed, kind, tiles, known=known.launches)
    if len(x_NI) < forms.MANY:
        known.keep(product, x_BTI)
    return y_NO.view(*x_BTI.shape[:-1], -1)


def _joined_again(product: GroupProduct, known: Known, x_BTI: Tensor) -> Tensor:
    h_NGR, y_BTO = forms.projected_again(product, known, x_BTI), x_BTI.new_empty((*x_BTI.shape[:-1], product.sizes[0]))
    known.launches["_multiply_gated"](x_BTI.data_ptr(), h_NGR.data_ptr(), y_BTO.data_ptr())
    return y_BTO


def accumulated(product: GroupProduct, kind: Activation, tiles: Tiles, known: Known, x_BTI: Tensor) -> Tensor:
    x_NI, packed = forms.rows_of(x_BTI).contiguous(), forms.packed_of(product, x_BTI)
    h_NGR = forms.projected(product, x_NI, packed, known)
    _, B_OR = product.pair(x_NI.dtype, x_NI.shape[1])
    gate, up = forms.modules_of(product)
    return mixed.accumulate_gated(x_NI, gate, up, h_NGR, B_OR, packed, kind, tiles).view(*x_BTI.shape[:-1], -1)


def stacked(product: GroupProduct, kind: Activation, tiles: Tiles, known: Known, x_BTI: Tensor) -> Tensor:
    if product.stack is None or not product.stack.is_whole():
        return beside(product, kind, tiles, Known(), x_BTI)  # other kernels than those that are known
    gate, up, Ax_BTR = forms.stacked_products(product.stack, x_BTI)
    if known.serves(product, x_BTI):
        h_NGR, y_BTO = forms.scaled_again(product, known, Ax_BTR), x_BTI.new_empty(gate.shape)
        known.launches["_add_gated"](h_NGR.data_ptr(), gate.data_ptr(), up.data_ptr(), y_BTO.data_ptr())
        return y_BTO
    _, B_OR = product.pair(x_BTI.dtype, x_BTI.shape[-1])
    packed = forms.packed_of(product, x_BTI)
    h_NGR = mixed.scale(forms.rows_of(Ax_BTR), packed, product.places_d, known=known.launches)
    y_NO = mixed.add_gated(
        forms.rows_of(gate), forms.rows_of(up), h_NGR, B_OR, packed, product.places_b, kind, tiles, known=known.launches
    )
    known.keep(product, x_BTI)
    return y_NO.view(gate.shape)
