"""Adapters on a live model: added, activated, mixed and detached without touching a weight of it.

The deltas hang on the model's own modules as their `forward`, so module names, `state_dict` and
identity stay what they were, and after `detach` the model is the same object, bit for bit. A
forward hook would be the usual place, but torch.compile reads hooks once and never looks again:
a compiled model would silently go on with the adapter it was compiled with.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vera.archive import Vectors
from vera.errors import TargetError, VeraError
from vera.manifest import DVORA, VERA, AdaptedModule
from vera.nn.draw import ProvenPair
from vera.nn.dvora import DvoraDelta
from vera.nn.hanging import MERGED, Hung, check_alone
from vera.nn.layer import Added, Delta, SharedProjection, VeraDelta, adapted_forward
from vera.nn.linear import linear_size, weight_of
from vera.nn.mixing import Layout, WeightedSum, per_row
from vera.nn.offloading import device_of
from vera.nn.own_heads import Replacing, heads_per_row
from vera.nn.seats import check_in, modules_of
from vera.nn.slots import Slot, placed
from vera.nn.turns import Turns
from vera.projection import Projection


class Bank:
    """The adapters on one model. `targets` maps module names of the base checkpoint to live modules of `model`,
    and `shared` those that have no weight of their own there to the checkpoint's tensor they share.

    It holds the modules and not the model, so that a model nobody else holds is freed (modules with an
    adapter on them at the next garbage collection).

    What a pass goes through is set by `activate` (one adapter), `combine` (a weighted sum) or, for
    the length of a block, `rows` (one adapter per row). A pass and its backward go through the
    same: gradient checkpointing runs the forward again, through whatever is set by then.
    """

    def __init__(
        self, targets: Mapping[str, nn.Module], model: nn.Module, shared: Mapping[str, str] | None = None
    ) -> None:
        self.targets = targets
        self.shared = shared or {}
        self.slots: dict[str, Slot] = {}
        self.weights: Mapping[str, float] = {}  # what every pass goes through: Σ weight · adapter
        self.merged: str | None = None  # the adapter that vera.nn.merge folded into the weights
        self.originals: dict[str, Tensor] = {}  # and those weights as they were, by module name
        self.turns = Turns()  # of threads, to change what passes go through
        self._in_rows = False
        self._in_use = False  # by a thread that is in a block of `using`
        self._projections: dict[tuple[str, torch.device], SharedProjection] = {}
        self._hung: dict[str, Hung] = {}
        self._hung_heads: list[Hung] = []
        self._model = weakref.ref(model)
        self._layout = Layout(model)

    @property
    def model(self) -> nn.Module:
        """Raises VeraError (MODEL_GONE) when nobody holds the model any more."""
        model = self._model()
        if model is None:
            raise VeraError("The model of these adapters is gone: keep a reference to it.", code="MODEL_GONE")
        return model

    @property
    def active(self) -> str | None:
        """The one adapter every pass goes through; None for the bare base, a combination, or rows."""
        if self._in_rows:
            return None
        if list(self.weights.values()) == [1.0]:
            return next(iter(self.weights))
        return self.merged

    def modules(self) -> tuple[AdaptedModule, ...]:
        """What a manifest says of an adapter on all the targets."""
        return tuple(
            AdaptedModule(name, *linear_size(self.targets[name]), self.shared.get(name))
            for name in sorted(self.targets)
        )

    def add_vera(
        self,
        name: str,
        modules: Iterable[AdaptedModule],
        digest: str,
        projection: Callable[[], Projection] | ProvenPair,
        *,
        method: str = VERA,
        vectors: Vectors | None = None,
        label: Any = None,
    ) -> Slot:
        """A new adapter `name` of `method` (VeRA, DVoRA) with these `vectors`, untrained ones when there are none.

        `projection` is called, or drawn where the modules are, only when `digest` is new here.

        Raises TargetError when a module is missing, is no linear map or has another size.
        """
        self._check_new(name)
        modules = tuple(modules)
        for module in modules:
            self._check_target(module)
        devices = {module.name: device_of(self.targets[module.name]) for module in modules}
        trained = placed(vectors, devices) if vectors else {}
        deltas: dict[str, Delta] = {}
        try:
            for module in modules:
                shared, given = self._shared(digest, devices[module.name], projection), trained.get(module.name)
                if method == DVORA:
                    deltas[module.name] = DvoraDelta(shared, self.targets[module.name], module.name, given)
                else:
                    deltas[module.name] = VeraDelta(shared, module.in_features, module.out_features, given)
        except BaseException:
            self._forget_unused()
            raise
        slot = self.slots[name] = Slot(deltas, label)
        return slot

    def add(self, name: str, deltas: Mapping[str, Delta], *, label: Any = None) -> Slot:
        """A new adapter `name` made of `deltas`, placed where the modules they stand beside are."""
        self._check_new(name)
        for module_name, delta in deltas.items():
            delta.to(device_of(self.targets[module_name]))
        slot = self.slots[name] = Slot(dict(deltas), label)
        return slot

    def slot(self, name: str) -> Slot:
        """Raises VeraError (ADAPTER_NOT_LOADED) when no adapter is called `name`."""
        if name not in self.slots:
            raise VeraError(
                f"No adapter {name!r} is on this model (there are: {', '.join(self.slots) or 'none'}): "
                "it was never loaded, or unloaded since. Load it again.",
                code="ADAPTER_NOT_LOADED",
            )
        return self.slots[name]

    def activate(self, name: str | None) -> None:
        """Make `name` the adapter every forward pass goes through; None is the bare base."""
        if name is None or name != self.merged:
            self.combine({} if name is None else {name: 1.0})

    def ensure_active(self, name: str) -> None:
        """`activate(name)`, at no cost when it is active already."""
        if self.active != name:
            self.activate(name)

    @contextmanager
    def passing(self, name: str) -> Iterator[None]:
        """Within the block passes go through `name`, whatever other threads want: they wait until it ends."""
        with self.turns:
            if self._in_rows:
                raise VeraError(
                    f"{name} alone is to answer, and the rows of a batch go through adapters of their own here: give the batch "
                    "to `model.backbone(**batch)`, or leave the block of `rows` first.",
                    code="ROWS_ACTIVE",
                )
            self.ensure_active(name)
            yield

    @contextmanager
    def using(self, name: str | None) -> Iterator[None]:
        """Within the block passes go through `name`, or through the bare base for None: other threads that want another adapter wait, and
        this one is refused (ROWS_ACTIVE), as is a coroutine that runs on it meanwhile. After it, what was active is active again."""
        with self.turns:
            self.check_free()
            before = dict(self.weights)
            self.activate(name)
            self._in_use = True
            try:
                yield
            finally:
                self._in_use = False
                self.combine(before)

    def combine(self, weights: Mapping[str, float]) -> None:
        """Make every forward pass go through the sum of adapters, each times its weight: W + Σ weight · (W' - W).

        Adapters of any method, seed, rank and targets can be summed. A head on pooled hidden states
        is not part of it; one in the model's own modules has no sum (HEADS_NOT_SUMMED). Raises VeraError (TARGET_REPLACED)
        for a module that is in the model no more, and (TARGET_TAKEN) while the model goes through adapters of another bank.
        """
        with self.turns:
            self.check_free()
            for name, weight in weights.items():
                self.slot(name)
                if not math.isfinite(weight):
                    raise VeraError(f"The weight of {name!r} is {weight}: give a finite number.", code="WEIGHT_INVALID")
            self._check_heads(weights)
            added = self._summed(weights)
            self._check_model(added)
            self._hang(added, self._heads(weights))
            self.weights = dict(weights)

    @contextmanager
    def rows(self, names: Sequence[str | None]) -> Iterator[None]:
        """Within the block, row i of every batch goes through adapter `names[i]`, or through the bare base for None.

        Each row gets what it gets alone, its adapter's head in the model included; on a CPU in float32 to the last
        bit, unless autograd records the pass: a step of training takes the form that costs least (vera.nn.product).
        Rows that share a projection share its two products, and only the vectors differ. The batch must be the first dimension of what the adapted modules
        are given, and as long as `names`; a pass raises VeraError (ROWS_MISMATCH) otherwise. Beam search
        repeats each row once per beam, side by side: so must `names`.
        Adapters can be added within the block, and nothing else can be activated, removed or
        detached; after it, what was active is active again.
        """
        with self.turns:
            self._begin_rows(names)
        try:
            yield
        finally:
            with self.turns:
                self._in_rows = False
                self._hang(self._summed(self.weights), self._heads(self.weights))

    def _begin_rows(self, names: Sequence[str | None]) -> None:
        self.check_free()
        rows = {name: self.slot(name) for name in names if name is not None}
        modules = {module for slot in rows.values() for module in slot.deltas}
        self._check_model(modules)
        mixed = {
            module: per_row(
                module, self.targets[module], [rows[name].deltas.get(module) if name else None for name in names],
                device_of(self.targets[module]), self._layout,
            )
            for module in sorted(modules)
        }  # fmt: skip
        self._hang(mixed, heads_per_row([rows[name].heads if name else {} for name in names]))
        self._in_rows = True

    def remove(self, name: str) -> None:
        """Forget adapter `name`; the base becomes active when it was, alone or in a combination."""
        with self.turns:
            self.slot(name)
            self.check_free()
            if name in self.weights:
                self.activate(None)
            self.slots.pop(name)
            self._forget_unused()

    def detach(self) -> None:
        """Forget every adapter, a merged one too. The model is what it was before the first one."""
        with self.turns:
            if self.merged is not None:
                self.restore()
            self.activate(None)
            self.slots.clear()
            self._projections.clear()

    def restore(self) -> None:
        """Copy the kept original weights back over the merged ones, bit for bit."""
        with torch.no_grad():
            for module_name, original in self.originals.items():
                weight_of(self.targets[module_name]).copy_(original)
                MERGED.discard(self.targets[module_name])
        self.originals.clear()
        self.merged = None
        self._hang({}, {})

    def keep_heads(self, name: str) -> None:
        """Let the model answer with the head of `name`, and with no delta: those are merged into its weights."""
        self._hang({}, self._heads({name: 1.0}))

    def parameters(self, name: str) -> list[nn.Parameter]:
        return [parameter for delta in self.slots[name].deltas.values() for parameter in delta.parameters()]

    @property
    def size_bytes(self) -> int:
        """Memory of all vectors and heads, one pair per digest, DVoRA's norms, and the original weights while one is
        merged."""
        deltas = [delta for slot in self.slots.values() for delta in slot.deltas.values()]
        norms = sum(delta.kept_bytes for delta in deltas if isinstance(delta, DvoraDelta))
        vectors = sum(parameter.nbytes for name in self.slots for parameter in self.parameters(name))
        vectors += sum(head.size_bytes for slot in self.slots.values() for head in slot.heads.values())
        pairs = sum(shared.size_bytes for shared in self._projections.values())
        return vectors + norms + pairs + sum(original.nbytes for original in self.originals.values())

    def check_free(self) -> None:
        """Raises VeraError while what passes go through is fixed: within a block of `rows` or `using`, or by a merge."""
        if self._in_use:
            raise VeraError(
                "Passes go through the adapter of a block of `using` here: leave that block first. Coroutines of one thread do not wait for "
                "each other: let each run its block in a thread (asyncio.to_thread).",
                code="ROWS_ACTIVE",
            )
        if self._in_rows:
            raise VeraError(
                "The rows of a batch go through adapters of their own here: leave the block of `rows` first.",
                code="ROWS_ACTIVE",
            )
        if self.merged is not None:
            raise VeraError(
                f"Adapter {self.merged!r} is merged into the weights: unmerge it first.", code="ADAPTER_MERGED"
            )

    def check_alone(self) -> None:
        """Raises VeraError (TARGET_TAKEN) while a module of the model goes through an adapter that is not of this bank."""
        model = self._model()
        if model is not None:  # else nobody can ask it anything
            check_alone(model, self._own())

    def _own(self) -> set[nn.Module]:
        """The modules that go through this bank's adapters and heads now, or have one in their weight."""
        hung = {each.module for each in (*self._hung.values(), *self._hung_heads)}
        return hung | {self.targets[module_name] for module_name in self.originals}

    def _summed(self, weights: Mapping[str, float]) -> dict[str, Added]:
        terms: dict[str, list[tuple[float, Delta]]] = {}
        for name, weight in weights.items():
            for module_name, delta in self.slots[name].deltas.items():
                terms.setdefault(module_name, []).append((weight, delta))
        return {
            module_name: several[0][1] if len(several) == 1 and several[0][0] == 1 else WeightedSum(several)
            for module_name, several in terms.items()
        }

    def _check_model(self, adapted: Collection[str]) -> None:
        """Raises VeraError unless the modules `adapted` are in the model (TARGET_REPLACED), and none goes through another bank's
        adapter (TARGET_TAKEN)."""
        model = self._model()
        if model is not None and adapted:
            there = modules_of(model)
            check_in(model, {module: self.targets[module] for module in adapted}, among=there)
            check_alone(model, self._own(), among=there)

    def _check_heads(self, weights: Mapping[str, float]) -> None:
        with_head = [name for name in weights if self.slots[name].heads]
        if with_head and list(weights.values()) != [1.0]:
            raise VeraError(
                f"{with_head[0]!r} has a head in the model, which has no weighted sum: activate one adapter, or give each "
                "row of a batch its own.",
                code="HEADS_NOT_SUMMED",
            )

    def _heads(self, weights: Mapping[str, float]) -> dict[nn.Module, Replacing]:
        heads = [head for name in weights for head in self.slots[name].heads.values()]
        return {head.live: head.answering for head in heads}

    def _hang(self, added: Mapping[str, Added], heads: Mapping[nn.Module, Replacing]) -> None:
        """Let the modules of `added`, and no others, add it to their outputs, and those of `heads` answer otherwise."""
        while self._hung:
            self._hung.popitem()[1].take_down()
        while self._hung_heads:
            self._hung_heads.pop().take_down()
        for module, replacing in heads.items():
            self._hung_heads.append(Hung.on(module, replacing(module.forward)))
        for module_name, what in added.items():
            target = self.targets[module_name]
            self._hung[module_name] = Hung.on(target, adapted_forward(target, what))

    def _shared(
        self, digest: str, device: torch.device, projection: Callable[[], Projection] | ProvenPair
    ) -> SharedProjection:
        """The pair of `digest` on `device`: a model may be spread over several."""
        key = (digest, device)
        if key not in self._projections:
            pair = projection.on(device) if isinstance(projection, ProvenPair) else projection()
            self._projections[key] = SharedProjection(pair).to(device)
        return self._projections[key]

    def _forget_unused(self) -> None:
        """Let go of the pairs that no adapter here uses."""
        used = {id(shared) for slot in self.slots.values() for shared in _projections_of(slot)}
        self._projections = {key: shared for key, shared in self._projections.items() if id(shared) in used}

    def _check_new(self, name: str) -> None:
        if name in self.slots:
            raise VeraError(f"An adapter {name!r} is already on this model: remove it first.", code="ADAPTER_LOADED")

    def _check_target(self, module: AdaptedModule) -> None:
        self._check_shared(module)
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

    def _check_shared(self, module: AdaptedModule) -> None:
        """Raises TargetError when the module does not hold the tensor of the base that it was trained with."""
        holds = self.shared.get(module.name)
        if holds != module.tensor:
            raise TargetError(
                f"{module.name} was trained with the base's {module.weight} and holds {holds or 'no tensor of it'} in this "
                "model: load the base as it was loaded for training (tie_word_embeddings in its configuration).",
                code="TARGET_UNTIED",
                module=module.name,
                expected=module.weight,
                got=holds,
            )


def _projections_of(slot: Slot) -> list[SharedProjection]:
    return [delta.shared for delta in slot.deltas.values() if isinstance(delta, VeraDelta)]
