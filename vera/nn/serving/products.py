"""The product of one group of modules with the adapters of a batch's rows, in the form that is quickest for its size.

- plain: each module's own product, and the adapters' beside it in torch operations. Everywhere, and what the others
  are measured against.
- beside: each module's own product, whatever it is (a quantised one, say); one kernel for h of the whole group and one
  that adds to all outputs.
- joined: one kernel makes the base's products too and adds to them in the same registers. Weights are read where they lie.
- accumulated: for long prompts, the kernel's sum of the base's products begins with what the adapters add.
- stacked: one product of torch's makes those of the base and A x, and one kernel adds to them; where weights may be moved
  (`stacking`), which is the caller's to say.

Which one, and how it cuts its work, is measured once per device and shape, outside of captured graphs, and kept.
"""

# B batch, T tokens of a row, N all tokens, I in_features, O out_features, R rank, S adapters

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vera.errors import VeraError
from vera.nn.kernels import RANK_STEP, can_run_on
from vera.nn.layer import SharedProjection
from vera.nn.linear import linear_size
from vera.nn.product import Factors, scaled
from vera.nn.serving.choosing import LONG, Choices, Quickest, Recent
from vera.nn.serving.packing import Packing, Places
from vera.nn.serving.stacking import Stack

Forward = Callable[..., Tensor]
Compute = Callable[[Tensor], list[Tensor]]
_HALVES = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Member:
    """A module of a group, its own `forward`, and where the bank has its vectors; None for one without adapters."""

    module: nn.Module
    forward: Forward
    places: Places | None

    @property
    def out_features(self) -> int:
        return linear_size(self.module)[1]


class GroupProduct:
    """What the members of a group answer, each row of the batch through its own adapter."""

    def __init__(self, members: Sequence[Member], shared: SharedProjection, packing: Packing, index: Tensor) -> None:
        self.members, self.shared, self.packing, self.index = members, shared, packing, index
        self.adapted = [member for member in members if member.places]
        self.places_d = [member.places.lambda_d for member in self.adapted if member.places]
        self.places_b = [member.places.lambda_b for member in self.adapted if member.places]
        self.h_columns = len(self.adapted) * self.rank
        self.sizes = [member.out_features for member in members]
        self.parameters = [member.module._parameters for member in members]
        self.stack: Stack | None = None
        self._pairs: dict[tuple[torch.dtype, int], tuple[Tensor, Tensor]] = {}
        self._chosen: Recent[Quickest[Compute]] = Recent()

    @property
    def rank(self) -> int:
        """As the kernels see it, padded."""
        return padded_rank(self.packing.rank)

    def outputs(self, x_BTI: Tensor, choices: Choices[Compute]) -> list[Tensor]:
        """The outputs (B, T, O) of every member for inputs x, of which row i goes through adapter `index[i]`."""
        if not self.has_kernels(x_BTI):
            return self.plain(x_BTI)
        key = self.compiled_for(x_BTI)
        chosen = self._chosen.get(key)
        if chosen is None:
            if not x_BTI.numel() or torch.cuda.is_current_stream_capturing():
                return self.plain(x_BTI)
            chosen = choices.best(
                self.shape_of(x_BTI), self._forms(x_BTI), run=lambda form: form(x_BTI), device=x_BTI.device
            )
            self._chosen.keep(key, chosen)
        return chosen.now(x_BTI)

    @staticmethod
    def compiled_for(x_BTI: Tensor) -> Hashable:
        """All that a kernel is compiled for: a form keeps what it has compiled."""
        return x_BTI.shape[:-1], x_BTI.stride(), x_BTI.data_ptr() % 16, x_BTI.dtype

    def stack_up(self) -> None:
        """Move the members' weights to stand above A, where the base's products are nothing but products."""
        modules = [member.module for member in self.members]
        weight = modules[0].weight
        if isinstance(weight, Tensor) and self._are_plain(weight.dtype) and self.stack is None:
            A_RI, _ = self.pair(weight.dtype, weight.shape[1])
            self.stack = Stack(modules, A_RI)  # type: ignore[arg-type]  # of nn.Linear
            self._chosen.clear()

    def unstack(self) -> None:
        if self.stack is not None:
            self.stack.undo()
            self.stack = None
            self._chosen.clear()

    def keep_stacked(self) -> VeraError | None:
        """Stacks anew what somebody has put in place of stacked weights. Where that cannot be they stay as they are, without
        a stack, and what this gives says why."""
        if self.stack is None or self.stack.is_whole():
            return None
        try:
            self.stack.restack()
        except VeraError as error:
            self.unstack()
            return error
        return None

    def plain(self, x_BTI: Tensor) -> list[Tensor]:
        """In torch operations: to the bit what `vera.nn.mixing` answers, when the vectors are packed in float32."""
        return [self._plainly(member, x_BTI) for member in self.members]

    def alone(self, member: Member, x_BTI: Tensor) -> Tensor:
        """One member's output for an input that the others do not share."""
        return self._plainly(member, x_BTI)

    def _plainly(self, member: Member, x_BTI: Tensor) -> Tensor:
        y_BTO = member.forward(x_BTI)
        if member.places is None:
            return y_BTO
        rows_BV = self.packing.rows_SV[self.index[: x_BTI.shape[0]].long()].float()
        spread = (len(rows_BV), *[1] * (y_BTO.dim() - 2), -1)
        d, b, rank = member.places.lambda_d, member.places.lambda_b, self.packing.rank
        A_RI, B_OR = self.shared.part(y_BTO.dtype, x_BTI.shape[-1], member.out_features)
        factors = Factors(
            A_RI,
            B_OR,
            rows_BV[:, d : d + rank].reshape(spread),
            rows_BV[:, b : b + member.out_features].reshape(spread),
        )
        added_BTO = scaled(functional.linear(x_BTI.to(y_BTO.dtype), A_RI), factors)
        return (y_BTO + added_BTO).to(y_BTO.dtype)

    def has_kernels(self, x: Tensor) -> bool:
        return (
            x.is_cuda
            and x.dtype in _HALVES
            and can_run_on(x.device)
            and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled(x.device.type)
            and not torch.is_grad_enabled()
        )

    def shape_of(self, x_BTI: Tensor) -> Hashable:
        """What decides which forms there are and which is quickest. Batches are measured at the next power of two."""
        tokens, joinable = x_BTI.numel() // x_BTI.shape[-1], self.is_joinable(x_BTI)
        sizes = tuple((member.out_features, member.places is not None) for member in self.members)
        kinds = None if joinable else tuple(type(member.module) for member in self.members)
        return (
            x_BTI.device,
            x_BTI.dtype,
            x_BTI.shape[-1],
            sizes,
            self.packing.rank,
            (tokens - 1).bit_length(),
            tokens >= LONG,
            joinable,
            kinds,
            self.stack is not None,
        )

    def _forms(self, x_BTI: Tensor) -> list[Compute]:
        from vera.nn.serving import forms
        from vera.nn.serving.repeating import Known

        tokens = x_BTI.numel() // x_BTI.shape[-1]
        found: list[Compute] = [self.plain]
        found += [partial(forms.beside, self, tiles, Known()) for tiles in forms.tiles_added(tokens)]
        if self.is_joinable(x_BTI):
            found += [partial(forms.joined, self, tiles, Known()) for tiles in forms.tiles_joined(tokens)]
            sizes = [self.rank, *(member.out_features for member in self.adapted)]
            found += [
                partial(forms.accumulated, self, tiles, Known()) for tiles in forms.tiles_accumulated(tokens, sizes)
            ]
        if self.stack is not None:
            found += [partial(forms.stacked, self, tiles, Known()) for tiles in forms.tiles_added(tokens)]
            found += [partial(forms.stacked_at_once, self, tiles, Known()) for tiles in forms.tiles_at_once(tokens)]
        return found

    def is_joinable(self, x: Tensor) -> bool:
        """Whether a kernel can make the base's products for inputs like these."""
        return x.shape[-1] % 16 == 0 and self._are_plain(x.dtype)

    def _are_plain(self, dtype: torch.dtype) -> bool:
        """Whether the base's products are nothing but x Wᵀ + bias of plain tensors."""
        return all(_is_plain_linear(member, dtype) for member in self.members)

    def pair(self, dtype: torch.dtype, in_features: int) -> tuple[Tensor, Tensor]:
        """(A, B) in `dtype` for inputs of this size, of a rank that the kernels take: padded with zeros."""
        key = dtype, in_features
        if key not in self._pairs:
            A_RI, B_OR = self.shared.in_dtype(dtype)
            more = padded_rank(len(A_RI)) - len(A_RI)
            if more:
                A_RI, B_OR = functional.pad(A_RI, (0, 0, 0, more)), functional.pad(B_OR, (0, more))
            self._pairs[key] = A_RI[:, :in_features], B_OR
        return self._pairs[key]


def padded_rank(rank: int) -> int:
    return -(-rank // RANK_STEP) * RANK_STEP


def _is_plain_linear(member: Member, dtype: torch.dtype) -> bool:
    module: Any = member.module
    return (
        type(module) is nn.Linear
        and getattr(member.forward, "__func__", None) is nn.Linear.forward
        and type(module.weight) is nn.Parameter
        and module.weight.dtype == dtype
        and module.weight.is_contiguous()
        and (module.bias is None or module.bias.dtype == dtype)
    )
