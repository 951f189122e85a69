"""Which linear modules of a model are given the same input: one product with A serves all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def by_input(modules: Mapping[str, nn.Module], run: Callable[[], object], *, largest: int) -> list[list[str]]:
    """The names of `modules` in groups of at most `largest`, as `run`, one pass of the model, calls them.

    Modules of a group are called one after the other with the very same tensor. One that `run` does not
    call, or calls more than once, is alone.
    """
    calls: list[tuple[str, Tensor]] = []
    with _noting(modules, calls), torch.no_grad():
        run()
    times = Counter(name for name, _ in calls)
    groups: list[list[str]] = []
    before: Tensor | None = None
    for name, x in calls:
        if times[name] > 1:
            before = None
        elif before is not None and x is before and len(groups[-1]) < largest:
            groups[-1].append(name)
        else:
            groups.append([name])
            before = x
    seen = {name for group in groups for name in group}
    return groups + [[name] for name in modules if name not in seen]


def beside(model: nn.Module, targets: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """The linear modules of `model` that stand beside one of `targets`, in the same module of it, by name."""
    adapted = {id(module) for module in targets.values()}
    found: dict[str, nn.Module] = {}
    for name, parent in model.named_modules():
        linear = {child: module for child, module in parent.named_children() if isinstance(module, nn.Linear)}
        if any(id(module) in adapted for module in linear.values()):
            for child, module in linear.items():
                if id(module) not in adapted:
                    found[f"{name}.{child}" if name else child] = module
    return found


@contextmanager
def _noting(modules: Mapping[str, nn.Module], calls: list[tuple[str, Tensor]]) -> Iterator[None]:
    """Within the block each call of one of `modules` adds its name and input to `calls`."""

    def note(name: str) -> Callable[[nn.Module, Sequence[Tensor]], None]:
        return lambda _module, inputs: calls.append((name, inputs[0]))

    handles = [module.register_forward_pre_hook(note(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
