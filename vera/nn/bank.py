"""Adapters on a live model: added, activated and detached without touching a weight of it.

The deltas hang on the model's own modules as forward hooks, so module names, `state_dict` and
identity stay what they were, and after `detach` the model is the same object, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from vera.archive import Vectors
from vera.errors import TargetError, VeraError
from vera.manifest import AdaptedModule
from vera.nn.layer import SharedProjection, VeraDelta
from vera.projection import Projection


@dataclass
class Slot:
    """One adapter in the bank: a delta per adapted module, and whatever its owner wants to keep with it."""

    deltas: dict[str, nn.Module]
    label: Any = None


@dataclass
class Bank:
    """The adapters on one model. `targets` maps module names of the base checkpoint to live modules.

    It holds the modules and not the model, so that a model nobody else holds is freed.
    """

    targets: Mapping[str, nn.Module]
    slots: dict[str, Slot] = field(default_factory=dict)
    active: str | None = None
    _projections: dict[str, SharedProjection] = field(default_factory=dict)
    _hooks: dict[str, RemovableHandle] = field(default_factory=dict)

    def add_vera(
        self,
        name: str,
        modules: Iterable[AdaptedModule],
        digest: str,
        projection: Callable[[], Projection],
        *,
        label: Any = None,
    ) -> Slot:
        """A new VeRA adapter `name` with untrained vectors. `projection` is called only when `digest` is new here.

        Raises TargetError when a module is missing or has another size.
        """
        self._check_new(name)
        modules = tuple(modules)
        for module in modules:
            self._check_target(module)
        shared = self._shared(digest, projection)
        deltas: dict[str, nn.Module] = {m.name: VeraDelta(shared, m.in_features, m.out_features) for m in modules}
        return self.add(name, deltas, label=label)

    def add(self, name: str, deltas: Mapping[str, nn.Module], *, label: Any = None) -> Slot:
        """A new adapter `name` made of `deltas`, placed where the modules they stand beside are."""
        self._check_new(name)
        for module_name, delta in deltas.items():
            delta.to(_device_of(self.targets[module_name]))
        slot = self.slots[name] = Slot(dict(deltas), label)
        return slot

    def activate(self, name: str | None) -> None:
        """Make `name` the adapter every forward pass goes through; None is the bare base."""
        if name is not None and name not in self.slots:
            raise VeraError(
                f"No adapter {name!r} is on this model (there are: {', '.join(self.slots) or 'none'}).",
                code="ADAPTER_NOT_LOADED",
            )
        for handle in self._hooks.values():
            handle.remove()
        self._hooks.clear()
        self.active = name
        if name is not None:
            for module_name, delta in self.slots[name].deltas.items():
                self._hooks[module_name] = self.targets[module_name].register_forward_hook(_adding(delta))

    def ensure_active(self, name: str) -> None:
        """`activate(name)`, at no cost when it is active already."""
        if self.active != name:
            self.activate(name)

    def remove(self, name: str) -> None:
        """Forget adapter `name`; the base becomes active when it was."""
        if self.active == name:
            self.activate(None)
        del self.slots[name]
        used = {id(shared) for slot in self.slots.values() for shared in _projections_of(slot)}
        self._projections = {digest: shared for digest, shared in self._projections.items() if id(shared) in used}

    def detach(self) -> None:
        """Forget every adapter. The model is what it was before the first one."""
        self.activate(None)
        self.slots.clear()
        self._projections.clear()

    def parameters(self, name: str) -> list[nn.Parameter]:
        return [parameter for delta in self.slots[name].deltas.values() for parameter in delta.parameters()]

    @property
    def size_bytes(self) -> int:
        """Memory of all vectors and one pair per digest."""
        tensors = [p for name in self.slots for p in self.parameters(name)]
        tensors += [buffer for shared in self._projections.values() for buffer in shared.buffers()]  # type: ignore[misc]  # buffers are tensors
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def _shared(self, digest: str, projection: Callable[[], Projection]) -> SharedProjection:
        if digest not in self._projections:
            shared = SharedProjection(projection())
            self._projections[digest] = shared.to(_device_of(next(iter(self.targets.values()))))
        return self._projections[digest]

    def _check_new(self, name: str) -> None:
        if name in self.slots:
            raise VeraError(f"An adapter {name!r} is already on this model: remove it first.", code="ADAPTER_LOADED")

    def _check_target(self, module: AdaptedModule) -> None:
        live = self.targets.get(module.name)
        if live is None:
            raise TargetError(
                f"The model has no module {module.name}, which the adapter adapts: it is another model.",
                module=module.name,
            )
        size = linear_size(live)
        if size != (module.in_features, module.out_features):
            raise TargetError(
                f"{module.name} maps {size} features in this model and {(module.in_features, module.out_features)} in the adapter: "
                "it is another model.",
                code="DIMS_MISMATCH",
                module=module.name,
            )


def fill(slot: Slot, vectors: Vectors) -> None:
    """Copy trained `vectors` into the deltas of `slot`, in place."""
    with torch.no_grad():
        for name, delta in slot.deltas.items():
            assert isinstance(delta, VeraDelta)
            delta.lambda_b.copy_(torch.from_numpy(vectors.lambda_b[name]))
            delta.lambda_d.copy_(torch.from_numpy(vectors.lambda_d[name]))


def read(slot: Slot) -> tuple[dict[str, Any], dict[str, Any]]:
    """(λb, λd) of `slot` as float32 arrays by module name."""
    deltas = {name: delta for name, delta in slot.deltas.items() if isinstance(delta, VeraDelta)}
    return (
        {name: delta.lambda_b.detach().float().cpu().numpy() for name, delta in deltas.items()},
        {name: delta.lambda_d.detach().float().cpu().numpy() for name, delta in deltas.items()},
    )


def find_targets(model: nn.Module, suffixes: Sequence[str]) -> dict[str, nn.Module]:
    """The linear modules of `model` whose names end with one of `suffixes`, by name.

    Raises TargetError when a suffix matches nothing.
    """
    found: dict[str, nn.Module] = {
        name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and _ends(name, suffixes)
    }
    for suffix in suffixes:
        if not any(_ends(name, [suffix]) for name in found):
            last = sorted({name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, nn.Linear)})
            raise TargetError(
                f"No linear module of this model ends with {suffix!r}: there are {', '.join(last)}.", target=suffix
            )
    return found


def linear_size(module: nn.Module) -> tuple[int, int]:
    """(in_features, out_features) of a linear module."""
    if not isinstance(module, nn.Linear):
        raise TargetError(
            f"{type(module).__name__} is not a linear map and cannot be adapted.", code="TARGET_UNSUPPORTED"
        )
    return module.in_features, module.out_features


def _adding(delta: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def add_delta(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added: Tensor = output + delta(inputs[0])
        return added

    return add_delta


def _ends(name: str, suffixes: Sequence[str]) -> bool:
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in suffixes)


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _projections_of(slot: Slot) -> list[SharedProjection]:
    return [delta._shared[0] for delta in slot.deltas.values() if isinstance(delta, VeraDelta)]
