"""A forward of ours on a live module in place of its own, and how it comes down again."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vera.errors import VeraError
from vera.nn.layer import Adapting
from vera.nn.own_heads import Forward, HeadForward, HeadRows
from vera.nn.seats import modules_of


@dataclass(frozen=True)
class Hung:
    """An adapted forward on a live module, and how to take it down."""

    module: nn.Module
    own: Callable[..., Tensor] | None  # a forward that somebody (accelerate does) had put on this very module
    marker: RemovableHandle | None

    @classmethod
    def on(cls, module: nn.Module, forward: Forward, *, is_marked: bool = True) -> Hung:
        """Not `is_marked` where nothing `has_fast_paths`: a module with a hook is called in some 5 µs more. One that is says so
        when somebody has taken the forward down, and is seen by those fast paths."""
        own = vars(module).get("forward")
        marker = module.register_forward_hook(_check_adapted) if is_marked else None
        module.forward = forward
        return cls(module, own, marker)

    def take_down(self) -> None:
        if self.marker is not None:
            self.marker.remove()
        if _is_plain(self.module):  # somebody has put the module's own back already
            vars(self.module).pop("forward", None)
        elif self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def has_fast_paths(model: nn.Module) -> bool:
    """Whether modules of `model` read the weights of their children: torch's own layers do, and call them only if one has a hook."""
    return any(isinstance(module, (nn.TransformerEncoderLayer, nn.MultiheadAttention)) for module in model.modules())


def _check_adapted(module: nn.Module, _inputs: object, _output: object) -> None:
    """Changes nothing. Raises VeraError (ADAPTER_TAKEN_DOWN) when the module's own forward has answered."""
    if _is_plain(module):
        raise VeraError(
            f"A {type(module).__name__} answered without the adapter that is active: somebody has put its own forward back (accelerate "
            "does when its hooks are removed). Activate the adapter again, or load it after such changes to the model.",
            code="ADAPTER_TAKEN_DOWN",
        )


def _is_plain(module: nn.Module) -> bool:
    """Whether a call of `module` is answered by the forward of its class alone."""
    return getattr(module.forward, "__func__", None) is type(module).forward


# Modules with an adapter of some bank in their weight.
MERGED: weakref.WeakSet[nn.Module] = weakref.WeakSet()


def check_alone(model: nn.Module, own: Collection[nn.Module] = (), *, among: Iterable[nn.Module] | None = None) -> None:
    """Raises VeraError (TARGET_TAKEN) when a module of `model` beside `own` goes through an adapter: answers would go through both.

    One model may have several banks: one of its own, those of models within it or around it (torch.compile's, say). A copy of an
    adapted model has none, and goes through its adapter all the same. `among` are the `modules_of(model)` of whoever has them at hand.
    """
    modules, merged = modules_of(model) if among is None else among, set(MERGED)
    if foreign := [each for each in modules if (_is_adapted(each) or each in merged) and each not in own]:
        name = _name_in(model, foreign)
        raise VeraError(
            f"{name} of this {type(model).__name__} goes through an adapter of another bank already, and answers would go through "
            "both. Make the bare base active first where that one was loaded (sdk.activate(that, None) of a part or a wrapper of "
            "this model), unmerge it there, or leave its block; a model is to be copied while its base is active.",
            code="TARGET_TAKEN",
            module=name,
        )


def check_bare(model: nn.Module) -> None:
    """Raises VeraError (TARGET_TAKEN) when a module of `model` goes through an adapter: what is trained then would stand on
    both together, and say that it stands on the base."""
    if adapted := [module for module in modules_of(model) if _is_adapted(module)]:
        name = _name_in(model, adapted)
        raise VeraError(
            f"{name} of this {type(model).__name__} goes through an adapter, and what is trained must stand on the base alone: "
            "make the bare base active first (sdk.activate(model, None)).",
            code="TARGET_TAKEN",
            module=name,
        )


def _is_adapted(module: nn.Module) -> bool:
    """Whether it goes through an adapter, or through the head of one."""
    return isinstance(vars(module).get("forward"), (Adapting, HeadForward, HeadRows))


def _name_in(model: nn.Module, modules: Collection[nn.Module]) -> str:
    """The name of the first of `modules` in `model`."""
    return next(str(name) for name, module in model.named_modules() if module in modules)
