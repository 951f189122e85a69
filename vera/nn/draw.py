"""The matrices of a recipe drawn by torch, on the device that will use them.

Integers of 64 bits alone until the last product, so that every device gives the bits of
`vera.streams`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vera.projection import DEFAULT_BUDGET_BYTES, PairSource, ProjectionRecipe, check_budget, rebuild
from vera.streams import MATRIX_A, MATRIX_B, PHILOX, PHILOX_MULTIPLIERS, kaiming_bound, key_of, round_keys

_LOW = 0xFFFFFFFF
# Blocks of four values drawn at once: some ten temporary tensors of 8 bytes a block are alive.
_RUN_BLOCKS = 1 << 20


def draw_projection(
    recipe: ProjectionRecipe,
    device: torch.device | str,
    *,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    source: PairSource | None = None,
) -> tuple[Tensor, Tensor]:
    """(A, B) of `recipe`, float32 on `device`, bit for bit those of `vera.projection.rebuild`.

    A Philox recipe is drawn on the device; a stream that can only be drawn in order is drawn on the
    CPU and copied, and so is a stored pair from `source`. Raises AdapterTooLarge, before allocating anything, as
    `rebuild` does.
    """
    check_budget(recipe, budget_bytes)
    if recipe.stream != PHILOX or recipe.seed is None:
        pair = rebuild(recipe, budget_bytes=budget_bytes, source=source)
        return torch.from_numpy(pair.A.copy()).to(device), torch.from_numpy(pair.B.copy()).to(device)
    A_shape, B_shape = (recipe.rank, recipe.in_features), (recipe.out_features, recipe.rank)
    A_RI = draw_uniform(recipe.seed, MATRIX_A, A_shape, kaiming_bound(recipe.in_features), device)
    B_OR = draw_uniform(recipe.seed, MATRIX_B, B_shape, kaiming_bound(recipe.rank), device)
    for matrix in (A_RI, B_OR):
        _round_in_place(matrix, recipe.rounding)
    return A_RI, B_OR


def draw_uniform(
    seed: int,
    matrix: int,
    shape: tuple[int, int],
    bound: np.float32,
    device: torch.device | str,
    *,
    at: tuple[int, int] = (0, 0),
) -> Tensor:
    """The part of `matrix` of `shape` that begins `at` (row, column): `vera.streams.Philox4x32.uniform` on `device`."""
    values = torch.empty(shape, dtype=torch.float32, device=device)
    first, last = at[1] // 4, -(-(at[1] + shape[1]) // 4)
    rows_per_run = max(1, _RUN_BLOCKS // max(1, last - first))
    blocks_W = torch.arange(first, last, device=device)
    for start in range(0, shape[0], rows_per_run):
        run = values[start : start + rows_per_run]
        rows_H1 = torch.arange(at[0] + start, at[0] + start + run.shape[0], device=device)[:, None]
        words_HW4 = _philox4x32(blocks_W, rows_H1, matrix, key=key_of(seed))
        odd_HC = (2 * (words_HW4 >> 8) + (1 - (1 << 24))).flatten(1)
        left = at[1] - 4 * first
        run.copy_(odd_HC[:, left : left + shape[1]])  # exact: below 2^24 in magnitude
        run.mul_(float(bound) * 2.0**-24)  # a float32 number still, and so rounded once
    return values


def _philox4x32(blocks_W: Tensor, rows_H1: Tensor, matrix: int, *, key: tuple[int, int]) -> Tensor:
    """The four words (H, W, 4) of each block. A word has no more elements than what it depends on, until it needs them.

    A product of two words may pass 2^63 and turn negative; its bits are right, and that is all that is used.
    """
    c0, c1 = blocks_W, rows_H1
    c2, c3 = blocks_W.new_full((), matrix), blocks_W.new_zeros(())
    for k0, k1 in round_keys(key):
        p0, p1 = c0 * PHILOX_MULTIPLIERS[0], c2 * PHILOX_MULTIPLIERS[1]
        c0, c1 = (((p1 >> 32) & _LOW) ^ k0) ^ c1, p1 & _LOW
        c2, c3 = (((p0 >> 32) & _LOW) ^ k1) ^ c3, p0 & _LOW
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _round_in_place(matrix: Tensor, rounding: str) -> None:
    if rounding != "float32":
        matrix.copy_(matrix.to(getattr(torch, rounding)))
