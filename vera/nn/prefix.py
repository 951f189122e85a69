"""The layers below the first adapted one, which are the same for every adapter: computed once for all that share a batch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn


def layers_from_first_adapted(backbone: nn.Module, adapted: Collection[nn.Module]) -> list[nn.Module]:
    """The layers of `backbone` from the first that holds one of these modules. Empty when there is nothing below it, and where
    the modules are not all in one stack of like layers."""
    for stack in backbone.modules():
        if isinstance(stack, nn.ModuleList) and _is_of_like_layers(stack):
            held = [set(layer.modules()) for layer in stack]
            if set(adapted) <= set().union(*held):
                first = next(number for number, each in enumerate(held) if each & set(adapted))
                return list(stack)[first:] if first else []
    return []


@contextmanager
def fanned_out(layers: Collection[nn.Module], rows: int, copies: int) -> Iterator[None]:
    """What comes to `layers` with so many rows goes through them once for each copy, all first copies before all second ones.

    The layers below, and whatever is made of the inputs for all layers (masks, positions), see the rows once.
    """
    repeat = partial(_repeated, rows=rows, copies=copies)

    def repeating(_layer: nn.Module, args: Any, kwargs: Any) -> Any:
        by_head = kwargs.get("alibi")  # of BLOOM and Falcon: (rows · heads, 1, tokens), in the order of the rows
        if isinstance(by_head, Tensor) and len(by_head) > rows and len(by_head) % rows == 0:
            return repeat(args), {**repeat(kwargs), "alibi": torch.cat([by_head] * copies)}
        return repeat(args), repeat(kwargs)

    hooks = [layer.register_forward_pre_hook(repeating, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_of_like_layers(stack: nn.ModuleList) -> bool:
    """Each is given what the one before it gives: experts and branches of one layer are no such stack."""
    return len(stack) > 1 and all(type(one) is type(other) for one, other in pairwise(stack))


def _repeated(value: Any, *, rows: int, copies: int) -> Any:
    if isinstance(value, Tensor):
        is_per_row = value.dim() > 1 and len(value) == rows
        return torch.cat([value] * copies) if is_per_row else value
    if isinstance(value, tuple):
        return tuple(_repeated(each, rows=rows, copies=copies) for each in value)
    if isinstance(value, dict):
        return {name: _repeated(each, rows=rows, copies=copies) for name, each in value.items()}
    return value
