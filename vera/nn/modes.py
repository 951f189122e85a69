"""In which mode a model answers or learns, and that it is afterwards in the one it was in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within the block `model` is in evaluation mode. After it, however it ends, each of its modules is in its mode of before:
    a part that was frozen in one stays in that one."""
    with in_mode(model, training=False):
        yield


@contextmanager
def in_mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """The same for training mode, or evaluation mode."""
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, was_training in before:
            module.training = was_training
