"""Heads that belong to a model of transformers: an adapter's own tensors in place of the model's.

Nothing is written into the live model. Each module of a head has a trained copy that answers in its
place while the adapter is active, so that adapters with heads share one model, and it still proves
to be its base. A head that is tied to the embedding changes alone, as in PEFT.
"""

# B batch, T tokens, H hidden, L outputs

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vera.errors import VeraError

Forward = Callable[..., Tensor]
# From a module's own forward to the one that takes its place.
Replacing = Callable[[Forward], Forward]


@dataclass(frozen=True, eq=False)
class OwnHead:
    """One module of an adapter's head: the `live` one of the model, and the `trained` one that answers in its place."""

    live: nn.Module
    trained: nn.Module

    def answering(self, _plain: Forward) -> Forward:
        """The forward of the live module while the trained one answers."""
        return HeadForward(self)

    @property
    def size_bytes(self) -> int:
        return sum(parameter.nbytes for parameter in self.trained.parameters())


@dataclass(frozen=True, eq=False)
class HeadForward:
    """The `forward` of a live module whose trained copy answers."""

    head: OwnHead

    def __call__(self, *inputs: Any, **named: Any) -> Tensor:
        outputs: Tensor = self.head.trained.forward(*inputs, **named)
        return outputs


@dataclass(frozen=True, eq=False)
class HeadRows:
    """The `forward` of a live module where row i of a batch goes through `heads[i]`, or through the module's own
    `plain` forward for None."""

    module: str
    heads: Sequence[OwnHead | None]
    plain: Forward

    def __call__(self, x_BTH: Tensor) -> Tensor:
        if len(x_BTH) != len(self.heads):
            raise VeraError(
                f"{self.module} was given {len(x_BTH)} rows, and adapters were set for {len(self.heads)}: set one per row "
                "of the batch.",
                code="ROWS_MISMATCH",
                module=self.module,
            )
        grouped: dict[OwnHead | None, list[int]] = {}
        for row, head in enumerate(self.heads):
            grouped.setdefault(head, []).append(row)
        parts = [(head.trained.forward if head else self.plain)(x_BTH[rows]) for head, rows in grouped.items()]
        if len({part.shape[-1] for part in parts}) > 1:
            raise VeraError(
                f"The heads of these rows have {', '.join(str(part.shape[-1]) for part in parts)} outputs at {self.module}, "
                "and one batch has one width: run them in a batch for each.",
                code="HEADS_DIFFER",
                module=self.module,
            )
        laid_out = torch.tensor([row for rows in grouped.values() for row in rows], device=x_BTH.device)
        return torch.cat(parts)[laid_out.argsort()]


def heads_per_row(rows: Sequence[Mapping[str, OwnHead]]) -> dict[nn.Module, Replacing]:
    """For each module that some row's adapter has a head for: which row goes through which."""
    live = {name: head.live for heads in rows for name, head in heads.items()}
    return {module: partial(HeadRows, name, [heads.get(name) for heads in rows]) for name, module in live.items()}


def own_heads(
    model: nn.Module, tensors: Mapping[str, NDArray[np.float32]], untrained: Sequence[str]
) -> dict[str, OwnHead]:
    """The modules of `model` that the head `tensors` belong to, by name, each with a copy that holds them.

    `untrained` are the parameters of `model` that do not come from its base. Changes nothing. Raises
    VeraError: HEAD_UNSUPPORTED for a tensor that has no place, HEAD_UNTRAINED for a parameter that
    neither the base nor the head gives.
    """
    if random := sorted(set(untrained) - tensors.keys()):
        raise VeraError(
            f"{', '.join(random[:3])} of this {type(model).__name__} come neither from the base nor from the adapter's head "
            f"({', '.join(sorted(tensors)[:4])}): they are as they were drawn when the model was made, and it would answer "
            "at random. The adapter was trained on another model, or those were left out when it was saved "
            "(modules_to_save).",
            code="HEAD_UNTRAINED",
            untrained=random[:20],
        )
    grouped: dict[str, dict[str, NDArray[np.float32]]] = {}
    for name, tensor in tensors.items():
        module, _, parameter = name.rpartition(".")
        grouped.setdefault(module, {})[parameter] = tensor
    return {module: _own_head(model, module, parameters) for module, parameters in grouped.items()}


def _own_head(model: nn.Module, name: str, tensors: Mapping[str, NDArray[np.float32]]) -> OwnHead:
    live = _module(model, name, tensors)
    has = {key: tuple(p.shape) for key, p in live.named_parameters()}
    given = {key: tensor.shape for key, tensor in tensors.items()}
    if has != given:
        raise _no_place(
            f"{name} has the parameters {has} in this {type(model).__name__}, and the head has {given}", name
        )
    if quantised := [key for key, p in live.named_parameters() if not _is_plain(p)]:
        raise _no_place(f"{name}.{quantised[0]} is quantised in this model, and a head is float", name)
    trained = copy.copy(live)
    vars(trained).pop("forward", None)  # that of an adapter that is active now
    placed = {key: _placed(tensor, getattr(live, key)) for key, tensor in tensors.items()}
    trained._parameters = {**dict.fromkeys(live._parameters), **placed}  # a bias that is not there is None
    return OwnHead(live, trained)


def _module(model: nn.Module, name: str, tensors: Mapping[str, NDArray[np.float32]]) -> nn.Module:
    try:
        live = model.get_submodule(name)
    except AttributeError as error:
        raise _no_place(
            f"this {type(model).__name__} has no module {name}, whose {', '.join(sorted(tensors))} it holds: load the "
            "adapter on the model of transformers that it was trained as (AutoModelForSequenceClassification, say)",
            name,
        ) from error
    if next(live.children(), None) is not None:
        raise _no_place(f"{name} is a {type(live).__name__}, which has parts of its own", name)
    return live


def _placed(tensor: NDArray[np.float32], like: Tensor) -> nn.Parameter:
    """`tensor` where and in the dtype in which the model holds its own."""
    return nn.Parameter(torch.from_numpy(tensor).to(like.device, like.dtype, copy=True), requires_grad=False)


def _is_plain(parameter: Tensor) -> bool:
    return type(parameter) is nn.Parameter and parameter.is_floating_point()


def _no_place(what: str, module: str) -> VeraError:
    return VeraError(
        f"The adapter's head cannot be loaded as it was trained: {what}.", code="HEAD_UNSUPPORTED", module=module
    )
