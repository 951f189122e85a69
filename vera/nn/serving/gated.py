"""A model's gated MLP, down(act(gate x) ⊙ up x), of whose gate and up one kernel makes what down is given.

They are a group, whose product the model reads only to pass it on: what is written and read again for that is saved. An MLP
is known by what it computes, not by its name: at packing its forward and that formula answer random inputs, to the bit alike.
"""

# B batch, T tokens of a row, N all tokens, I in_features, O out_features

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vera.errors import VeraError, VeraWarning
from vera.nn.serving.choosing import Choices, Quickest, Recent
from vera.nn.serving.products import Compute, GroupProduct

Gated = Callable[[Tensor], Tensor]
_SEED = 0x6A7ED
_SCALES = (1.0, 1e2, 1e4)  # of random inputs: what clamps is another only where it does
ACTIVATIONS: Mapping[str, Gated] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": partial(functional.gelu, approximate="tanh"),
}


class GatedProduct:
    """act(gate x) ⊙ up x of an MLP whose gate and up are `product`'s members, each row through its own adapter."""

    def __init__(self, product: GroupProduct, act: Gated, activation: str, choices: Choices[Gated]) -> None:
        self.product, self.activation = product, activation
        self._act, self._choices = act, choices
        self._chosen: Recent[Quickest[Gated]] = Recent()

    def output(self, x_BTI: Tensor, choices: Choices[Compute]) -> Tensor:
        """(B, T, O), for inputs that have kernels; `choices` are those of the two products."""
        key = self.product.compiled_for(x_BTI)
        chosen = self._chosen.get(key)
        if chosen is None:
            unfused = partial(self.unfused, choices)
            if not x_BTI.numel() or torch.cuda.is_current_stream_capturing():
                return unfused(x_BTI)
            shape = self.product.shape_of(x_BTI), self.activation
            chosen = self._choices.best(
                shape, [unfused, *self._forms(x_BTI)], run=lambda form: form(x_BTI), device=x_BTI.device
            )
            self._chosen.keep(key, chosen)
        return chosen.now(x_BTI)

    def unfused(self, choices: Choices[Compute], x_BTI: Tensor) -> Tensor:
        gate, up = self.product.outputs(x_BTI, choices)
        return self._act(gate) * up

    def forget(self) -> None:
        """Choose anew: weights have been moved."""
        self._chosen.clear()

    def _forms(self, x_BTI: Tensor) -> list[Gated]:
        from vera.nn.serving import gated_forms

        return gated_forms.forms_of(self.product, self.activation, x_BTI)


class GatedMlp:
    """A live MLP that has been proven to be down(act(gate x) ⊙ up x), with gate and up of one group."""

    def __init__(self, module: Any, product: GroupProduct, choices: Choices[Gated]) -> None:
        """Raises VeraError (MLP_UNKNOWN) for one that is another."""
        check_members(module, product)
        self.module, self.own = module, module.forward
        self.product = GatedProduct(product, module.act_fn, activation_of(module), choices)
        check_formula(module)
        self._parts = self._found()

    def is_fused(self, x: Tensor) -> bool:
        """Whether the kernels may answer for the whole of it: its parts are those of then, and nobody watches them."""
        return self.product.product.has_kernels(x) and not self.module.training and self._is_as_proven()

    def _is_as_proven(self) -> bool:
        parts = self._found()
        return parts == self._parts and not any(
            part._forward_hooks or part._forward_pre_hooks for part in parts if isinstance(part, nn.Module)
        )

    def _found(self) -> list[Any]:
        return [self.module.gate_proj, self.module.up_proj, self.module.act_fn]


def check_members(module: Any, product: GroupProduct) -> None:
    children = [getattr(module, name, None) for name in ("gate_proj", "up_proj")]
    if [member.module for member in product.members] != children or not isinstance(
        getattr(module, "down_proj", None), nn.Module
    ):
        raise _unknown("it has no gate_proj, up_proj and down_proj that are called in this order")
    if not callable(getattr(module, "act_fn", None)):
        raise _unknown("it has no act_fn")
    if len(product.adapted) != 2:
        raise _unknown("only one of gate_proj and up_proj is adapted")


def activation_of(module: Any) -> str:
    """Which of `ACTIVATIONS` the MLP's is, by what it answers. Raises VeraError (MLP_UNKNOWN) for another."""
    weight = module.gate_proj.weight
    x = torch.linspace(-12, 12, 4097, device=weight.device).to(weight.dtype if weight.is_floating_point() else None)
    with torch.no_grad():
        answer = module.act_fn(x.clone())
        found = [name for name, known in ACTIVATIONS.items() if torch.equal(known(x), answer)]
    if not found:
        raise _unknown(f"its act_fn is none of {', '.join(ACTIVATIONS)}")
    return found[0]


def check_formula(module: Any) -> None:
    """Raises VeraError (MLP_UNKNOWN) when `module` answers random rows, small or large, with anything but down(act(gate x) ⊙ up x)."""
    if module.training:
        raise _unknown("it is being trained; call eval() on the model first")
    weight = module.gate_proj.weight
    generator = torch.Generator().manual_seed(_SEED)
    dtype = weight.dtype if weight.is_floating_point() else torch.get_default_dtype()
    x = torch.randn(2, 3, module.gate_proj.in_features, generator=generator)
    for scale in _SCALES:
        _check_answer(module, (x * scale).to(weight.device, dtype))


@torch.no_grad()
def _check_answer(module: Any, x: Tensor) -> None:
    expected = module.down_proj(module.act_fn(module.gate_proj(x)) * module.up_proj(x))
    try:
        answer = module(x)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _unknown(f"it takes other inputs than one tensor ({error})") from error
    if not isinstance(answer, Tensor) or not _is_same(answer, expected):
        raise _unknown("it answers something else than down(act(gate x) * up x)")


def _is_same(answer: Tensor, expected: Tensor) -> bool:
    """To the bit, but that one NaN is like another: in float16 large inputs overflow."""
    return answer.shape == expected.shape and torch.allclose(answer, expected, rtol=0, atol=0, equal_nan=True)


def _fused(
    model: nn.Module, groups: Mapping[tuple[str, ...], GroupProduct]
) -> Iterator[tuple[str, GatedMlp | VeraError]]:
    choices: Choices[Gated] = Choices()
    for names, product in groups.items():
        parents = {name.rpartition(".")[0] for name in names}
        if len(names) == 2 and len(parents) == 1:
            parent = parents.pop()
            try:
                yield parent, GatedMlp(model.get_submodule(parent), product, choices)
            except VeraError as error:
                yield parent, error


def gated_mlps(model: nn.Module, groups: Mapping[tuple[str, ...], GroupProduct]) -> dict[str, GatedMlp]:
    """Those MLPs of `model`, by name, whose gate and up are one of `groups` of modules.

    Warns with VeraWarning of what looks like one and is another, and when there is none at all: the others answer as they do without.
    """
    found = dict(_fused(model, groups))
    mlps = {name: mlp for name, mlp in found.items() if isinstance(mlp, GatedMlp)}
    others = {name: error for name, error in found.items() if isinstance(error, VeraError)}
    for name, error in list(others.items())[:1]:
        warnings.warn(
            f"{len(others)} of {len(found)} MLPs are not fused, {name} the first. {error}", VeraWarning, stacklevel=4
        )
    if not found:
        warnings.warn(
            "No MLP is fused: no two modules with the same input that the adapters adapt are the gate and the up of one.",
            VeraWarning,
            stacklevel=4,
        )
    return mlps


def _unknown(why: str) -> VeraError:
    return VeraError(f"The MLP is not one whose activation can be fused: {why}.", code="MLP_UNKNOWN")
