"""A forward of ours on a live module in place of its own, and how it comes down again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vera.errors import VeraError
from vera.nn.layer import Adapting
from vera.nn.own_heads import Forward


@dataclass(frozen=True)
class Hung:
    """An adapted forward on a live module, and how to take it down."""

    module: nn.Module
    own: Callable[..., Tensor] | None  # a forward that somebody (accelerate does) had put on this very module
    marker: RemovableHandle

    @classmethod
    def on(cls, module: nn.Module, forward: Forward) -> Hung:
        own = vars(module).get("forward")
        # torch's TransformerEncoderLayer reads the weights of its linears, and calls them only if one has a hook.
        marker = module.register_forward_hook(_seen_by_fast_paths)
        module.forward = forward
        return cls(module, own, marker)

    def take_down(self) -> None:
        self.marker.remove()
        if self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def _seen_by_fast_paths(_module: nn.Module, _inputs: object, _output: object) -> None:
    """Changes nothing."""


def check_unadapted(module_name: str, module: nn.Module) -> None:
    if isinstance(module.forward, Adapting):
        raise VeraError(
            f"{module_name} goes through an adapter of another bank already: detach that one first.",
            code="TARGET_TAKEN",
            module=module_name,
        )
