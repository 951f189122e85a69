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
    marker: RemovableHandle | None

    @classmethod
    def on(cls, module: nn.Module, forward: Forward, *, is_marked: bool = True) -> Hung:
        """Not `is_marked` where nothing `has_fast_paths`: a module with a hook is called in some 5 µs more."""
        own = vars(module).get("forward")
        marker = module.register_forward_hook(_seen_by_fast_paths) if is_marked else None
        module.forward = forward
        return cls(module, own, marker)

    def take_down(self) -> None:
        if self.marker is not None:
            self.marker.remove()
        if self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def has_fast_paths(model: nn.Module) -> bool:
    """Whether modules of `model` read the weights of their children: torch's own layers do, and call them only if one has a hook."""
    return any(isinstance(module, (nn.TransformerEncoderLayer, nn.MultiheadAttention)) for module in model.modules())


def _seen_by_fast_paths(_module: nn.Module, _inputs: object, _output: object) -> None:
    """Changes nothing."""


def check_unadapted(module_name: str, module: nn.Module) -> None:
    if isinstance(module.forward, Adapting):
        raise VeraError(
            f"{module_name} goes through an adapter of another bank already: detach that one first, or leave its block.",
            code="TARGET_TAKEN",
            module=module_name,
        )


def check_bare(model: nn.Module) -> None:
    """Raises VeraError (TARGET_TAKEN) when a module of `model` goes through an adapter: what is trained then would stand on
    both together, and say that it stands on the base."""
    for name, module in model.named_modules():
        if isinstance(vars(module).get("forward"), Adapting):
            raise VeraError(
                f"{name} of this {type(model).__name__} goes through an adapter, and what is trained must stand on the base alone: "
                "make the bare base active first (sdk.activate(model, None)).",
                code="TARGET_TAKEN",
                module=name,
            )
