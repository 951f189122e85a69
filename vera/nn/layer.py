"""The trained part of one linear map.

    y = W x + λb ⊙ B (λd ⊙ (A x))        Kopiczko, Blankevoort, Asano 2024, equation 2

Nothing here touches W: the delta is computed beside the base module and added to its output.
"""

# B batch, T tokens, I in_features, O out_features, R rank

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from vera.peft_format import LAMBDA_D_INITIAL
from vera.projection import Projection


class SharedProjection(nn.Module):
    """The frozen pair of one digest, held once however many modules and adapters use it."""

    A_RI: Tensor
    B_OR: Tensor

    def __init__(self, pair: Projection) -> None:
        super().__init__()
        # A copy: the rebuilt arrays are read-only, and torch cannot mark a tensor so.
        self.register_buffer("A_RI", torch.from_numpy(pair.A.copy()), persistent=False)
        self.register_buffer("B_OR", torch.from_numpy(pair.B.copy()), persistent=False)


class VeraDelta(nn.Module):
    """λb ⊙ B (λd ⊙ (A x)) for one module, with the leading columns of A and rows of B.

    λd starts at 0.1 and λb at 0, so a new delta adds exactly nothing. Both are float32, whatever
    torch's default dtype is at the time.
    """

    def __init__(self, shared: SharedProjection, in_features: int, out_features: int) -> None:
        super().__init__()
        self._shared = (shared,)  # in a tuple: the bank owns it, and it must not be registered once per module
        self.in_features, self.out_features = in_features, out_features
        self.lambda_d = nn.Parameter(torch.full((shared.A_RI.shape[0],), LAMBDA_D_INITIAL, dtype=torch.float32))
        self.lambda_b = nn.Parameter(torch.zeros(out_features, dtype=torch.float32))

    def forward(self, x_BTI: Tensor) -> Tensor:
        """The delta (…, out_features) for inputs (…, in_features), in the dtype of the input."""
        shared, dtype = self._shared[0], x_BTI.dtype
        A_RI = shared.A_RI[:, : self.in_features].to(dtype)
        B_OR = shared.B_OR[: self.out_features].to(dtype)
        h_BTR = functional.linear(x_BTI, A_RI) * self.lambda_d.to(dtype)
        return functional.linear(h_BTR, B_OR) * self.lambda_b.to(dtype)


class LoraDelta(nn.Module):
    """The delta of a LoRA (Hu et al. 2022, equation 3), to compare with: (α/r) · B A x.

    A is Kaiming-uniform from `generator` and B is zero, as in the reference implementation.
    """

    def __init__(
        self, rank: int, in_features: int, out_features: int, *, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        bound = in_features**-0.5  # Kaiming-uniform with a = √5
        self.lora_A = nn.Parameter(
            (torch.rand(rank, in_features, generator=generator, dtype=torch.float32) * 2 - 1) * bound
        )
        self.lora_B = nn.Parameter(torch.zeros(out_features, rank, dtype=torch.float32))
        self.scaling = alpha / rank

    def forward(self, x_BTI: Tensor) -> Tensor:
        return functional.linear(functional.linear(x_BTI, self.lora_A), self.lora_B) * self.scaling
