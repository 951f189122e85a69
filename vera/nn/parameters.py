"""The vectors of an adapter as parameters of the model itself, for training loops that know only models.

An adapter is no part of the model it is on: `model.parameters()` and `state_dict()` are the base's
alone. transformers' Trainer, DistributedDataParallel and accelerate train what `parameters()` gives,
clear the gradients of that and average the gradients of that; within a block of `as_parameters` it is
the vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vera.errors import VeraError
from vera.nn.bank import Bank

MODULE = "vera_vectors"  # under this name they are in the module they adapt


@contextmanager
def as_parameters(bank: Bank, name: str) -> Iterator[Sequence[nn.Parameter]]:
    """Within the block the vectors of adapter `name` are parameters of `bank.model`, and the only ones that want a
    gradient; the adapter is active.

    Whatever saves the model still saves the base and nothing else, and loading a checkpoint of it
    changes no vector. After the block every parameter wants a gradient if and only if it did before.
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
        bank.targets[module_name].add_module(MODULE, _Vectors(list(delta.parameters())))
    try:
        yield vectors
    finally:
        for module_name in deltas:
            delattr(bank.targets[module_name], MODULE)
        for parameter, wants in wanted:
            parameter.requires_grad_(wants)


def _check_free(bank: Bank, module_name: str) -> None:
    if hasattr(bank.targets[module_name], MODULE):
        raise VeraError(
            f"Vectors of {module_name} are parameters of the model already, and one adapter is trained at a time: leave the block "
            "of the other first.",
            code="TARGET_TAKEN",
            module=module_name,
        )


class _Vectors(nn.Module):
    """Parameters that no checkpoint of the model has, and that stay float32 whatever the model is cast to."""

    def __init__(self, vectors: Sequence[nn.Parameter]) -> None:
        super().__init__()
        for number, vector in enumerate(vectors):
            self.register_parameter(str(number), vector)

    def _save_to_state_dict(self, *_args: Any) -> None:
        """Has nothing to save."""

    def _load_from_state_dict(self, *_args: Any) -> None:
        """Looks for nothing, so nothing is missing."""

    def _apply(self, change: Callable[[Tensor], Tensor], recurse: bool = True) -> _Vectors:
        super()._apply(lambda vector: _moved(vector, change(vector)), recurse)  # type: ignore[no-untyped-call]  # torch
        return self


def _moved(vector: Tensor, changed: Tensor) -> Tensor:
    """`vector` where `changed` is. A cast there and back would have rounded it."""
    return changed if changed.dtype == vector.dtype else vector.to(changed.device)
