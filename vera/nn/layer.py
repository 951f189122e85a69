"""The trained part of one linear map, and how a live module is made to add it.

    y = W x + λb ⊙ B (λd ⊙ (A x))        Kopiczko, Blankevoort, Asano 2024, equation 2

Nothing here touches W: the delta is computed beside the base module and added to its output. An
embedding is the linear map of a one-hot vector: it is given token numbers, and A x is a column of A.
"""

# B batch, T tokens, I in_features, O out_features, R rank

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Self, SupportsIndex

import torch
from torch import Tensor, nn
from torch.nn import functional

from vera.nn.linear import lookup_scale
from vera.nn.marking import marked
from vera.nn.product import Factors, adapted_linear, is_recording, scaled, vera_product
from vera.nn.turns import not_saved
from vera.peft_format import LAMBDA_D_INITIAL
from vera.projection import Projection

# What is added to a module's output, computed from its input and that output: a delta, or several of them mixed.
Added = Callable[[Tensor, Tensor], Tensor]


class SharedProjection(nn.Module):
    """The frozen pair of one digest, held once however many modules and adapters use it."""

    A_RI: Tensor
    B_OR: Tensor

    def __init__(self, pair: Projection | tuple[Tensor, Tensor]) -> None:
        super().__init__()
        # A copy of an array: a rebuilt one is read-only, and torch cannot mark a tensor so.
        A_RI, B_OR = (m if isinstance(m, Tensor) else torch.from_numpy(m.copy()) for m in pair)
        self.register_buffer("A_RI", A_RI, persistent=False)
        self.register_buffer("B_OR", B_OR, persistent=False)
        self._rounded: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
        self._parts: dict[tuple[torch.dtype, int, int], tuple[Tensor, Tensor]] = {}

    def in_dtype(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """(A, B) in `dtype`, rounded once and kept: a copy per module would stay alive until the backward pass."""
        if dtype == self.A_RI.dtype or torch.compiler.is_compiling():
            return self.A_RI.to(dtype), self.B_OR.to(dtype)
        if dtype not in self._rounded:
            with torch.inference_mode(False):  # a tensor made in inference mode could never be trained with
                self._rounded[dtype] = self.A_RI.to(dtype), self.B_OR.to(dtype)
        return self._rounded[dtype]

    def part(self, dtype: torch.dtype, in_features: int, out_features: int) -> tuple[Tensor, Tensor]:
        """The columns of A and the rows of B that a module of this size uses, in `dtype`. Views, kept: small models
        call it more often than they multiply."""
        key = (dtype, in_features, out_features)
        if key in self._parts and not torch.compiler.is_compiling():
            return self._parts[key]
        A_RI, B_OR = self.in_dtype(dtype)
        part = A_RI[:, :in_features], B_OR[:out_features]
        if not torch.compiler.is_compiling() and not torch.is_inference_mode_enabled():
            self._parts[key] = part
        return part

    @property
    def size_bytes(self) -> int:
        """Memory of the pair and its rounded copies."""
        return sum(m.nbytes for pair in ((self.A_RI, self.B_OR), *self._rounded.values()) for m in pair)


class Delta(nn.Module):
    """What one adapter adds to one linear map: ΔW x, where ΔW is the product of two factors of low rank.

    Called with inputs x (…, in_features) and the map's own outputs W x + bias (…, out_features), in
    one dtype; gives (…, out_features) in that dtype or a wider one. An embedding has token numbers
    (…) for inputs, and the delta's products are float32.
    """

    def factors(self) -> tuple[Tensor, Tensor]:
        """(rank x in_features) and (out_features x rank), float32: ΔW is the second times the first."""
        raise NotImplementedError

    def weight(self) -> Tensor:
        """ΔW (out_features x in_features), float32."""
        A_RI, B_OR = self.factors()
        with torch.autocast(A_RI.device.type, enabled=False):  # it would round the product
            return B_OR @ A_RI

    def adapted(self, weight_OI: Tensor) -> Tensor:
        """What `weight_OI` becomes, W + ΔW, in the wider of its dtype and float32."""
        return weight_OI + self.weight().to(torch.promote_types(weight_OI.dtype, torch.float32))


class VeraDelta(Delta):
    """λb ⊙ B (λd ⊙ (A x)) for one module, with the leading columns of A and rows of B.

    Without `trained` vectors λd (rank) starts at 0.1 and λb (out_features) at 0, so a new delta adds
    exactly nothing. All are float32, whatever torch's default dtype is at the time.
    """

    def __init__(
        self, shared: SharedProjection, in_features: int, out_features: int, trained: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self._shared = (shared,)  # in a tuple: the bank owns it, and it must not be registered once per module
        self.in_features, self.out_features = in_features, out_features
        vectors = trained or _untrained(shared, out_features)
        self.lambda_d, self.lambda_b = nn.Parameter(vectors["lambda_d"]), nn.Parameter(vectors["lambda_b"])

    @property
    def shared(self) -> SharedProjection:
        return self._shared[0]

    def forward(self, x_BTI: Tensor, _plain_BTO: Tensor) -> Tensor:
        return scaled_projection(self.shared, x_BTI, self.lambda_d, self.lambda_b)

    def factors(self) -> tuple[Tensor, Tensor]:
        """λd·A and λb·B: a VeRA adapter is a LoRA of its rank."""
        A_RI = self.shared.A_RI[:, : self.in_features]
        B_OR = self.shared.B_OR[: self.out_features]
        return self.lambda_d[:, None] * A_RI, self.lambda_b[:, None] * B_OR


def _untrained(shared: SharedProjection, out_features: int) -> Mapping[str, Tensor]:
    rank, device = shared.A_RI.shape[0], shared.A_RI.device
    return {
        "lambda_d": torch.full((rank,), LAMBDA_D_INITIAL, dtype=torch.float32, device=device),
        "lambda_b": torch.zeros(out_features, dtype=torch.float32, device=device),
    }


class LoraDelta(Delta):
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

    def forward(self, x_BTI: Tensor, _plain_BTO: Tensor) -> Tensor:
        dtype = product_dtype(x_BTI)
        h_BTR = first_product(x_BTI, self.lora_A.to(dtype))
        return functional.linear(h_BTR, self.lora_B.to(dtype)) * self.scaling

    def factors(self) -> tuple[Tensor, Tensor]:
        return self.lora_A, self.lora_B * self.scaling


def scaled_projection(shared: SharedProjection, x_BTI: Tensor, lambda_d: Tensor, lambda_b: Tensor) -> Tensor:
    """λb ⊙ B (λd ⊙ (A x)), where the vectors are one per batch, (R,) and (O,), or one per row, (B, 1, R) and (B, 1, O).

    The two products run in the dtype of x, as the base's own product does: on a bfloat16 base they
    cost what bfloat16 costs. The vectors multiply in float32 and are never rounded, so neither are
    their gradients.
    """
    if x_BTI.is_floating_point():
        return vera_product(x_BTI, _factors(shared, x_BTI, lambda_d, lambda_b))
    A_RI, B_OR = shared.in_dtype(product_dtype(x_BTI))
    return scaled(first_product(x_BTI, A_RI), Factors(A_RI, B_OR[: lambda_b.shape[-1]], lambda_d, lambda_b))


def _factors(shared: SharedProjection, x_BTI: Tensor, lambda_d: Tensor, lambda_b: Tensor) -> Factors:
    return Factors(*shared.part(x_BTI.dtype, x_BTI.shape[-1], lambda_b.shape[-1]), lambda_d, lambda_b)


def product_dtype(x: Tensor) -> torch.dtype:
    """The dtype the products of a delta run in: that of inputs, and float32 for token numbers."""
    return x.dtype if x.is_floating_point() else torch.float32


def first_product(x: Tensor, A_RI: Tensor) -> Tensor:
    """A x for inputs (…, I), with the leading columns of A; for token numbers (…), the columns they name."""
    if x.is_floating_point():
        return functional.linear(x, A_RI[:, : x.shape[-1]])
    return functional.embedding(x, A_RI.T)


class Adapting:
    """The `forward` of a live module that an adapter takes part in. One module has one at most.

    It is copied with its model (`copy.deepcopy`), and never pickled.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        fresh = object.__new__(type(self))
        memo[id(self)] = fresh
        for name, value in vars(self).items():
            object.__setattr__(fresh, name, copy.deepcopy(value, memo))
        return fresh

    def __reduce_ex__(self, _protocol: SupportsIndex) -> NoReturn:
        raise not_saved()


@dataclass(frozen=True, eq=False)
class AdaptedForward(Adapting):
    """The `forward` of a live module that adds something to what its own `plain` forward gives.

    The sum is rounded once, to the dtype of the base's output. Under autocast that is the dtype of
    the base's product too, and so it is the delta's.
    """

    plain: Callable[..., Tensor]
    added: Added

    def __call__(self, x_BTI: Tensor) -> Tensor:
        joined = self._joined(x_BTI)
        if joined is not None:
            return joined
        y_BTO = self.plain(x_BTI)
        return (y_BTO + self._added(x_BTI.to(y_BTO.dtype), y_BTO)).to(y_BTO.dtype)

    def _added(self, x_BTI: Tensor, y_BTO: Tensor) -> Tensor:
        return marked(self.added(x_BTI, y_BTO), self.added)

    def _joined(self, x_BTI: Tensor) -> Tensor | None:
        """The same in one step, where that is cheaper: a VeRA trained beside nothing but torch's own Linear, frozen."""
        delta, module = self.added, getattr(self.plain, "__self__", None)
        if type(delta) is not VeraDelta or not is_recording(delta.lambda_d, delta.lambda_b):
            return None
        if not isinstance(module, nn.Linear) or getattr(self.plain, "__func__", None) is not nn.Linear.forward:
            return None
        if torch.is_autocast_enabled(x_BTI.device.type) or not _is_frozen(module, x_BTI.dtype):
            return None
        factors = _factors(delta.shared, x_BTI, marked(delta.lambda_d, delta), marked(delta.lambda_b, delta))
        return adapted_linear(x_BTI, module.weight, module.bias, factors)


@dataclass(frozen=True, eq=False)
class AdaptedLookup(AdaptedForward):
    """The `forward` of a live embedding. `scale` is what it multiplies its rows by, some models' √hidden_size."""

    scale: float | Tensor | None = None

    def __call__(self, ids_BT: Tensor) -> Tensor:
        y_BTO = self.plain(ids_BT)
        if self.scale is None:
            return (y_BTO + self._added(ids_BT, y_BTO)).to(y_BTO.dtype)
        return (y_BTO + self._added(ids_BT, y_BTO.float() / self.scale) * self.scale).to(y_BTO.dtype)


def adapted_forward(module: nn.Module, added: Added) -> AdaptedForward:
    """The `forward` of the live `module` that adds `added` to its own."""
    if isinstance(module, nn.Embedding):
        return AdaptedLookup(module.forward, added, lookup_scale(module))
    return AdaptedForward(module.forward, added)


def _is_frozen(module: nn.Linear, dtype: torch.dtype) -> bool:
    """Whether the weights of `module` are plain tensors of `dtype` (a quantised weight is none) that are not trained."""
    weight, bias = module.weight, module.bias
    if type(weight) not in _PLAIN or weight.requires_grad or weight.dtype != dtype:
        return False
    return bias is None or (type(bias) in _PLAIN and not bias.requires_grad and bias.dtype == dtype)


_PLAIN = (nn.Parameter, Tensor)
