"""Whether modules are still where they were in a model: one that somebody has put another in place of is never called again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from vera.errors import VeraError


class Seats:
    """Where `modules` of `model` are: every step of the way to each."""

    def __init__(self, model: nn.Module, modules: Iterable[nn.Module]) -> None:
        wanted = {id(module) for module in modules}
        steps = {
            step.names: step
            for name, module in model.named_modules()
            if id(module) in wanted
            for step in _way(model, name)
        }
        self._steps = list(steps.values())

    def check(self) -> None:
        """Raises VeraError (TARGET_REPLACED) when one of them is there no more."""
        for step in self._steps:
            if step.children.get(step.leaf) is not step.module:
                raise VeraError(
                    f"{'.'.join(step.names)} of the model was replaced by another module since the adapters were packed, and would "
                    "answer without them: load the adapters on the model as it is now, and pack them anew.",
                    code="TARGET_REPLACED",
                    module=".".join(step.names),
                )


class _Step:
    """A module of a model, and where its parent holds it."""

    def __init__(self, parent: nn.Module, names: tuple[str, ...]) -> None:
        self.names, self.leaf = names, names[-1]
        self.children = parent._modules
        self.module = parent._modules[self.leaf]


def _way(model: nn.Module, name: str) -> Iterator[_Step]:
    parent, names = model, tuple(name.split("."))
    for number in range(1, len(names) + 1):
        step = _Step(parent, names[:number])
        yield step
        assert step.module is not None  # it leads to a module
        parent = step.module
