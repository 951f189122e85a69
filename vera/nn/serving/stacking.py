"""The weights of modules with one input and, below them, A, in one tensor: one product makes W x of each and A x.

The modules keep their parameters, whose data are rows of that tensor from then on: what it costs is one more A.
"""

# I in_features, O out_features of a module, S outputs of all modules and ranks of A

from __future__ import annotations

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vera.errors import VeraError


class Stack:
    """`modules`, plain linear ones of one dtype and device, with A (R, I) below them.

    Their weights are moved, bit for bit: a CUDA graph that was captured before would go on reading where they were.
    """

    def __init__(self, modules: Sequence[nn.Linear], A_RI: Tensor) -> None:
        check_unstacked(modules)
        self.modules = modules
        self.sizes = [*(len(module.weight) for module in modules), len(A_RI)]
        weight = modules[0].weight
        with torch.inference_mode(False), torch.no_grad():
            self.W_SI = weight.new_empty(sum(self.sizes), weight.shape[1])
            self.bias_S = weight.new_zeros(sum(self.sizes)) if any(m.bias is not None for m in modules) else None
            *places, below = torch.split(self.W_SI, self.sizes)
            below.copy_(A_RI)
            for module, place in zip(modules, places, strict=True):
                _move(module.weight, place)
            if self.bias_S is not None:
                for module, place in zip(modules, torch.split(self.bias_S, self.sizes), strict=False):
                    if module.bias is not None:
                        _move(module.bias, place)
        self._addresses = self._found()
        _STACKS.add(self)

    @property
    def more_bytes(self) -> int:
        """What the stack takes beyond the weights that are in it."""
        return self.sizes[-1] * self.W_SI.shape[1] * self.W_SI.itemsize

    def is_whole(self) -> bool:
        """Whether the modules still have their weights here: nobody has given one another tensor meanwhile."""
        return self._found() == self._addresses

    def undo(self) -> None:
        """Give the modules weights of their own again, bit for bit what is here now."""
        _STACKS.discard(self)
        for parameter in self._parameters():
            if parameter.untyped_storage().data_ptr() in self._storages():
                parameter.data = parameter.data.clone()

    def _found(self) -> list[int]:
        return [parameter.data_ptr() for parameter in self._parameters()]

    def _parameters(self) -> list[Tensor]:
        return [p for module in self.modules for p in (module.weight, module.bias) if p is not None]

    def _storages(self) -> list[int]:
        return [stacked.untyped_storage().data_ptr() for stacked in (self.W_SI, self.bias_S) if stacked is not None]


def check_unstacked(modules: Sequence[nn.Module]) -> None:
    """Raises VeraError (TARGET_TAKEN) when a weight stands in a stack: moved to another, the first would be useless, unnoticed."""
    wanted = {id(module) for module in modules}
    for stack in _STACKS:
        if stack.is_whole() and wanted & {id(module) for module in stack.modules}:
            raise VeraError(
                "The weights of these modules are stacked for another packed bank of this model: pack the adapters into that "
                "one, give its `unstack` a call first, or make this one without `stack`.",
                code="TARGET_TAKEN",
            )


def _move(parameter: Tensor, place: Tensor) -> None:
    place.copy_(parameter)
    parameter.data = place


# Those that are in use: a bank that is gone takes its stacks along.
_STACKS: weakref.WeakSet[Stack] = weakref.WeakSet()
