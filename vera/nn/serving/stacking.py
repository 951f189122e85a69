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
        self.modules, self._held = modules, [module._parameters for module in modules]
        self.sizes = [*(len(module.weight) for module in modules), len(A_RI)]
        weight = modules[0].weight
        with torch.inference_mode(False), torch.no_grad():
            self.W_SI = weight.new_empty(sum(self.sizes), weight.shape[1])
            self.bias_S = weight.new_zeros(sum(self.sizes)) if any(m.bias is not None for m in modules) else None
            self.W_SI[-len(A_RI) :].copy_(A_RI)
            self._places = self._split()
            self._fill()
        self._addresses = self._found()
        _STACKS.add(self)

    @property
    def more_bytes(self) -> int:
        """What the stack takes beyond the weights that are in it."""
        return self.sizes[-1] * self.W_SI.shape[1] * self.W_SI.itemsize

    def is_whole(self) -> bool:
        """Whether the modules still have their weights here: nobody has given one another tensor meanwhile."""
        return self._found() == self._addresses

    def restack(self) -> None:
        """Move what somebody has given the modules meanwhile to where their weights were: whatever reads there, a captured
        graph too, reads it from then on. Raises VeraError: TARGET_TAKEN, STACK_UNFIT for what does not go there."""
        check_unstacked(self.modules, but=self)
        parameters = self._parameters()
        are_plain = all(type(parameter) is nn.Parameter for parameter in parameters)
        if not are_plain or [_kind(parameter) for parameter in parameters] != [_kind(place) for place in self._places]:
            raise VeraError(
                "The weights of these modules were exchanged for others of another kind, shape, dtype or device since they were "
                "stacked: pack the adapters anew to stack those, and capture CUDA graphs again.",
                code="STACK_UNFIT",
            )
        with torch.inference_mode(False), torch.no_grad():
            self._part()
            self._fill()
        self._addresses = self._found()

    def undo(self) -> None:
        """Give the modules weights of their own again, bit for bit what is here now."""
        _STACKS.discard(self)
        self._part()

    def _split(self) -> list[Tensor]:
        """Where each parameter belongs, in the order of `_parameters`."""
        weights = torch.split(self.W_SI, self.sizes)
        biases = torch.split(self.bias_S, self.sizes) if self.bias_S is not None else [None] * len(self.sizes)
        return [
            place
            for module, weight, bias in zip(self.modules, weights, biases, strict=False)
            for place in (weight, bias if module.bias is not None else None)
            if place is not None
        ]

    def _fill(self) -> None:
        for parameter, place in zip(self._parameters(), self._places, strict=True):
            place.copy_(parameter)
            parameter.data = place

    def _part(self) -> None:
        """Give what is here a tensor of its own: somebody may have exchanged two of them for each other."""
        for parameter in self._parameters():
            if parameter.untyped_storage().data_ptr() in self._storages():
                parameter.data = parameter.data.clone()

    def _found(self) -> list[int]:
        return [parameter.data_ptr() for parameter in self._parameters()]

    def _parameters(self) -> list[Tensor]:
        # Not `module.weight`, which takes longer than the rest: every pass asks this of every group.
        return [p for held in self._held for p in (held.get("weight"), held.get("bias")) if p is not None]

    def _storages(self) -> list[int]:
        return [stacked.untyped_storage().data_ptr() for stacked in (self.W_SI, self.bias_S) if stacked is not None]


def check_unstacked(modules: Sequence[nn.Module], *, but: Stack | None = None) -> None:
    """Raises VeraError (TARGET_TAKEN) when a weight stands in a stack, except in `but`: moved to another, the first would be useless."""
    wanted = {id(module) for module in modules}
    for stack in _STACKS:
        if stack is not but and stack.is_whole() and wanted & {id(module) for module in stack.modules}:
            raise VeraError(
                "The weights of these modules are stacked for another packed bank of this model: pack the adapters into that "
                "one, give its `unstack` a call first, or make this one without `stack`.",
                code="TARGET_TAKEN",
            )


def _kind(tensor: Tensor) -> tuple[object, ...]:
    return tensor.shape, tensor.dtype, tensor.device, tensor.is_contiguous()


# Those that are in use: a bank that is gone takes its stacks along.
_STACKS: weakref.WeakSet[Stack] = weakref.WeakSet()
