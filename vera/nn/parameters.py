"""The vectors of an adapter as parameters of the model itself, for training loops that know only models.

An adapter is no part of the model it is on: `model.parameters()` and `state_dict()` are the base's
alone. transformers' Trainer, DistributedDataParallel and accelerate train what `parameters()` gives,
clear the gradients of that and average the gradients of that; within a block of `as_parameters` it is
the vectors. What they save and go on from is `state_dict()`: there the vectors stand beside the base,
for a checkpoint without them would go on from untrained ones, at a step and with an optimizer that are not theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from vera.errors import VeraError
from vera.nn.bank import Bank
from vera.nn.layer import Delta
from vera.nn.live_tensors import TRAINED_VECTORS


@contextmanager
def as_parameters(bank: Bank, name: str) -> Iterator[Sequence[nn.Parameter]]:
    """Within the block the vectors of adapter `name` are parameters of `bank.model`, and the only ones that want a
    gradient; the adapter is active.

    A checkpoint that is saved in the block holds them beside the base (`….vera_vectors.lambda_b`), and loading it there puts
    both back; one without them is short of keys. After the block the model has the base's tensors alone again, and
    every parameter wants a gradient if and only if it did before.
    Raises VeraError (ADAPTER_NOT_LOADED, ROWS_ACTIVE, ADAPTER_MERGED, or TARGET_TAKEN within such a block of the same modules).
    """
    deltas = bank.slot(name).deltas
    for module_name in deltas:
        _check_free(bank, module_name)
    bank.activate(name)
    bank.check_free()
    vectors = bank.parameters(name)
    wanted = [(parameter, parameter.requires_grad) for parameter in (*bank.model.parameters(), *vectors)]
    bank.model.requires_grad_(False)
    for vector in vectors:
        vector.requires_grad_(True)
    for module_name, delta in deltas.items():
        bank.targets[module_name].add_module(TRAINED_VECTORS, _Vectors(delta))
    try:
        yield vectors
    finally:
        for module_name in deltas:
            delattr(bank.targets[module_name], TRAINED_VECTORS)
        for parameter, wants in wanted:
            parameter.requires_grad_(wants)


def _check_free(bank: Bank, module_name: str) -> None:
    if hasattr(bank.targets[module_name], TRAINED_VECTORS):
        raise VeraError(
            f"Vectors of {module_name} are parameters of the model already, and one adapter is trained at a time: leave the block "
            "of the other first.",
            code="TARGET_TAKEN",
            module=module_name,
        )


class _Vectors(nn.Module):
    """The parameters of a delta, which stay float32 whatever the model is cast to."""

    def __init__(self, delta: Delta) -> None:
        super().__init__()
        for name, vector in delta.named_parameters():
            self.register_parameter(name, vector)

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> _Vectors:
        super()._apply(lambda vector: _moved(vector, change(vector)), recurse)  # type: ignore[no-untyped-call]  # torch
        return self


def _moved(vector: Tensor, changed: Tensor) -> Tensor:
    """`vector` where `changed` is. A cast there and back would have rounded it."""
    return changed if changed.dtype == vector.dtype else vector.to(changed.device)
