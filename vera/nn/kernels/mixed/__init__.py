"""One VeRA adapter for each row of a batch, for all modules that are given the same input, on a GPU.

    y_g = x W_gᵀ + λb_g[i] ⊙ (h_g Bᵀ),   h_g = λd_g[i] ⊙ (x Aᵀ)        i is the adapter of the row

A and B are shared by every module and every adapter, so they stay in the cache, and of an adapter a row
reads two vectors. `project` makes h for the whole group; then `multiply_adapted` makes the base's own products and adds
the adapters' to them in the same registers, or `add_adapted` adds to products that are there, x Aᵀ perhaps among them.
`gating` does the same where a model goes on with act(gate) ⊙ up.

Sums over the inputs are split over programs, and what they make is added in one order: equal inputs give equal bits.
"""

from vera.nn.kernels.mixed.accumulating import accumulate_adapted
from vera.nn.kernels.mixed.adding import add_adapted, scale_and_add
from vera.nn.kernels.mixed.batch import Module, Packed, Tiles
from vera.nn.kernels.mixed.gating import Activation, accumulate_gated, add_gated, multiply_gated
from vera.nn.kernels.mixed.multiplying import multiply_adapted
from vera.nn.kernels.mixed.projecting import project, scale

__all__ = [
    "Activation", "Module", "Packed", "Tiles", "accumulate_adapted", "accumulate_gated", "add_adapted",
    "add_gated", "multiply_adapted", "multiply_gated", "project", "scale", "scale_and_add",
]  # fmt: skip
