"""The matrices of a recipe drawn on the device that will use them, with the bits of `vera.streams`.

A GPU with Triton runs a kernel of our own (`vera.nn.kernels.philox`), any other device plain torch
operations: integers of 64 bits alone until the last product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vera.nn import kernels
from vera.projection import (
    DEFAULT_BUDGET_BYTES,
    PHILOX,
    PairSource,
    Projection,
    ProjectionRecipe,
    check_budget,
    check_digest,
    digest_of,
    prove,
    rebuild,
)
from vera.streams import MATRIX_A, MATRIX_B, PHILOX_MULTIPLIERS, kaiming_bound, key_of, round_keys

_LOW = 0xFFFFFFFF
# Blocks of four values drawn at once: some ten temporary tensors of 8 bytes a block are alive.
_RUN_BLOCKS = 1 << 20


@dataclass(frozen=True)
class ProvenPair:
    """The pair of `recipe`, to be made on a device and proven there to be the one `digest` names.

    `source` and `budget_bytes` are those of `vera.projection.prove`.
    """

    recipe: ProjectionRecipe
    digest: str
    budget_bytes: int = DEFAULT_BUDGET_BYTES
    source: PairSource | None = None

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """(A, B), float32 on `device`. What is returned is what was hashed, or what made it, made again.

        A GPU draws Philox itself. The first time in a process the drawn bytes are copied back and hashed: the
        kernel may never have run on this device. The same draw again is the same integers, and is not hashed
        again. Raises ProjectionMismatch and AdapterTooLarge as `prove` does.
        """
        if self.recipe.stream != PHILOX or not kernels.can_run_on(device):
            return _on_device(
                prove(self.recipe, self.digest, budget_bytes=self.budget_bytes, source=self.source), device
            )
        A_RI, B_OR = draw_projection(self.recipe, device, budget_bytes=self.budget_bytes)
        proof = (self.recipe, self.digest, device)
        if proof not in _PROVEN:
            drawn = Projection(A_RI.cpu().numpy(), B_OR.cpu().numpy())
            check_digest(self.recipe, self.digest, digest_of(drawn))
            _PROVEN.add(proof)
        return A_RI, B_OR


# What was drawn and hashed in this process, on which device.
_PROVEN: set[tuple[ProjectionRecipe, str, torch.device]] = set()


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
        return _on_device(rebuild(recipe, budget_bytes=budget_bytes, source=source), device)
    A_shape, B_shape = (recipe.rank, recipe.in_features), (recipe.out_features, recipe.rank)
    rounding = getattr(torch, recipe.rounding)
    return (
        draw_uniform(recipe.seed, MATRIX_A, A_shape, kaiming_bound(recipe.in_features), device, rounding=rounding),
        draw_uniform(recipe.seed, MATRIX_B, B_shape, kaiming_bound(recipe.rank), device, rounding=rounding),
    )


def draw_uniform(
    seed: int,
    matrix: int,
    shape: tuple[int, int],
    bound: np.float32,
    device: torch.device | str,
    *,
    at: tuple[int, int] = (0, 0),
    rounding: torch.dtype = torch.float32,
) -> Tensor:
    """The part of `matrix` of `shape` that begins `at` (row, column): `vera.streams.Philox4x32.uniform` on `device`.

    float32, rounded to what `rounding` can hold.
    """
    values = torch.empty(shape, dtype=torch.float32, device=device)
    if kernels.can_run_on(values.device):
        from vera.nn.kernels import philox

        philox.draw(values, seed, matrix, bound, at=at, rounding=rounding)
    else:
        _draw_by_torch(values, seed, matrix, bound, at)
        if rounding != torch.float32:
            values.copy_(values.to(rounding))
    return values


def _draw_by_torch(values: Tensor, seed: int, matrix: int, bound: np.float32, at: tuple[int, int]) -> None:
    device, shape = values.device, values.shape
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


def _on_device(pair: Projection, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """A copy: the arrays of a pair are read-only, and torch cannot mark a tensor so."""
    return torch.from_numpy(pair.A.copy()).to(device), torch.from_numpy(pair.B.copy()).to(device)
