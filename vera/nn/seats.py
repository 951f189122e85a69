"""Whether modules are still in a model: one that somebody has put another in place of is never called again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import nn

from vera.errors import VeraError


def check_in(model: nn.Module, modules: Mapping[str, nn.Module], *, among: Iterable[nn.Module] | None = None) -> None:
    """Raises VeraError (TARGET_REPLACED) when one of `modules`, by name, is in `model` no more. It may have been wrapped.

    `among` are the `modules_of(model)` of whoever has them at hand."""
    there = {id(module) for module in (modules_of(model) if among is None else among)}
    for name, module in modules.items():
        if id(module) not in there:
            raise VeraError(
                f"{name} of the model was replaced by another module since adapters were put on it, and would answer without "
                "them: open the base anew, and load the adapters on it as it is then.",
                code="TARGET_REPLACED",
                module=name,
            )


def modules_of(model: nn.Module) -> list[nn.Module]:
    """`model.modules()`, in no order and several times as fast: whoever switches adapters asks every time."""
    found: dict[int, nn.Module] = {}
    left = [model]
    while left:
        module = left.pop()
        if id(module) not in found:
            found[id(module)] = module
            left.extend(child for child in module._modules.values() if child is not None)
    return list(found.values())


class Seats:
    """Where `modules` of `model` are: every step of the way to each, so that a look takes microseconds."""

    def __init__(self, model: nn.Module, modules: Iterable[nn.Module]) -> None:
        wanted = {id(module) for module in modules}
        self._modules = {name: module for name, module in model.named_modules() if id(module) in wanted}
        steps = {names: step for name in self._modules for names, step in _way(model, name)}
        self._steps = list(steps.values())

    def check(self, model: nn.Module) -> None:
        """Raises VeraError (TARGET_REPLACED) when one of them is in `model` no more."""
        if any(children.get(leaf) is not module for children, leaf, module in self._steps):
            check_in(model, self._modules)


_Step = tuple[Mapping[str, nn.Module | None], str, nn.Module]


def _way(model: nn.Module, name: str) -> Iterator[tuple[str, _Step]]:
    """Each step to the module `name`, by the name it leads to: the children of one module, which of them, and what that is."""
    parent, so_far = model, ""
    for leaf in name.split("."):
        module = parent.get_submodule(leaf)
        so_far = f"{so_far}.{leaf}" if so_far else leaf
        yield so_far, (parent._modules, leaf, module)
        parent = module
