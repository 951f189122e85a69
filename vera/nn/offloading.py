"""Modules whose weights are elsewhere while they are not in use: accelerate's hooks (`device_map`), asked and not imported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vera.errors import TargetError


def kept_weight(module: nn.Module, name: str) -> Tensor | None:
    """The tensor `name` of `module` where it is kept, on the host or on disk; None when no hook keeps it."""
    for hook in _hooks(module):
        weights = getattr(hook, "weights_map", None)
        if weights is not None:
            found = weights[name]
            return found if isinstance(found, Tensor) else None
    return None


def device_of(module: nn.Module) -> torch.device:
    """Where `module` computes: on the device of its parameters or, while they are elsewhere, of its hook."""
    device = next(module.parameters()).device
    if device.type == "meta":
        for hook in _hooks(module):
            if getattr(hook, "execution_device", None) is not None:
                return torch.device(hook.execution_device)
    return device


def check_at_hand(module: nn.Module, module_name: str, *, needed_for: str) -> None:
    """Raises TargetError for a module whose weight is elsewhere and cannot be read or written in place."""
    if next(module.parameters()).device.type == "meta":
        raise TargetError(
            f"The weight of {module_name} is offloaded, and {needed_for} needs it at hand: load the base without "
            "offloading (device_map), or use the adapter of method vera unmerged.",
            code="TARGET_UNSUPPORTED",
            module=module_name,
        )


def _hooks(module: nn.Module) -> tuple[Any, ...]:
    hook = getattr(module, "_hf_hook", None)
    return (hook, *getattr(hook, "hooks", ()))
