"""Many adapters on a live model, packed: each row of a batch through its own, at next to the price of the base alone.

A `vera.nn.bank.Bank` holds adapters of any kind, to be trained, summed and merged. A `PackedBank` holds
adapters of one projection and one set of modules, thousands of them, to be answered with: a row of one
tensor each, read where it lies, so that a captured CUDA graph goes on while adapters come, go and change rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from vera.archive import Vectors
from vera.errors import TargetError, VeraError, VeraWarning
from vera.manifest import AdaptedModule
from vera.nn.bank import Bank
from vera.nn.dvora import DvoraDelta
from vera.nn.hanging import Hung, check_alone, has_fast_paths
from vera.nn.kernels import MAX_MODULES
from vera.nn.layer import Adapting, SharedProjection, VeraDelta
from vera.nn.linear import is_linear, linear_size, weight_of
from vera.nn.mixing import Layout
from vera.nn.offloading import device_of
from vera.nn.seats import Seats
from vera.nn.serving.choosing import Choices
from vera.nn.serving.gated import GatedMlp, gated_mlps
from vera.nn.serving.groups import beside, by_input
from vera.nn.serving.packing import NOBODY, Packing
from vera.nn.serving.products import Compute, GroupProduct, Member, padded_rank
from vera.nn.serving.stacking import check_unstacked
from vera.nn.slots import read


class PackedBank:
    """The adapters of one projection and one set of modules on one model, for batches whose rows are of many of them.

    Within a `with` block of it the model answers batches as `use` has said last, and outside of it as its other
    bank says. `rows` of a batch come first in every input of an adapted module.
    """

    def __init__(
        self, bank: Bank, name: str, *, capacity: int, run: Callable[[], object], max_rows: int = 1024,
        dtype: torch.dtype | None = None, stack: bool = False, fuse: bool = False,
    ) -> None:  # fmt: skip
        """A bank for adapters like `name`, which is in `bank` and is the first one here too.

        `run` is one pass of the model, of any batch: it shows which modules have the same input. The vectors
        are held in `dtype`, that of the base by default, or float32 where the base's weights are integers (quantised). With `stack` the weights of the groups' modules are moved to stand
        above A in memory (`vera.nn.serving.stacking`), which is quicker from some 64 rows on; `unstack` undoes it. With `fuse` an MLP's
        activation is computed where its inputs are (`vera.nn.serving.gated`), within the block, where that is quicker. Raises TargetError
        (TARGET_UNSUPPORTED) for DVoRA, embeddings, modules on several devices and heads, and VeraError (TARGET_TAKEN) for
        modules that go through another bank's adapters now or weights that are stacked for one, or (DTYPE_INVALID) for a
        `dtype` without fractions.
        """
        deltas = _deltas_of(bank, name)
        self.shared = _one_projection(deltas)
        targets = {module: bank.targets[module] for module in deltas}
        device = _one_device(targets)
        with _bare(bank):
            linear = {**targets, **beside(bank.model, targets)}
            check_alone(bank.model)  # a forward of another bank would count as the base's own
            groups = by_input(linear, run, largest=MAX_MODULES)
            adapted = [[_described(module, linear) for module in group if module in targets] for group in groups]
            rank = self.shared.A_RI.shape[0]
            self.packing = Packing(
                adapted, rank=rank, padded_rank=padded_rank(rank), capacity=capacity,
                dtype=_dtype_of_vectors(dtype, targets), device=device,
            )  # fmt: skip
            self.index = torch.full((max_rows,), NOBODY, dtype=torch.int32, device=device)
            self.choices: Choices[Compute] = Choices()
            named = {
                tuple(group): _Group([(linear[module], self.packing.places.get(module)) for module in group], self)
                for group, some in zip(groups, adapted, strict=True)
                if some
            }
            self.groups = list(named.values())
            self._seats = Seats(
                bank.model, [member.module for group in self.groups for member in group.product.members]
            )
            if stack:
                check_unstacked([member.module for group in self.groups for member in group.product.members])
                for group in self.groups:
                    group.product.stack_up()
            products = {names: group.product for names, group in named.items()}
            self.mlps = gated_mlps(bank.model, products) if fuse else {}
        self.names: tuple[str | None, ...] = ()
        self._bank = bank
        self._leaving: ExitStack | None = None
        self._is_marked = has_fast_paths(bank.model)
        self._layout = Layout(bank.model)
        self.put(name, read(bank.slot(name)))

    def put(self, name: str, vectors: Vectors) -> None:
        """Insert or replace the adapter `name`; when there is no room, in place of the one used longest ago.

        The next pass sees it, that of a captured graph too. Raises VeraError (DIMS_MISMATCH, BANK_FULL).
        """
        self.packing.put(name, vectors, kept=frozenset(used for used in self.names if used is not None))

    def remove(self, name: str) -> None:
        """Forget `name`. Raises VeraError (ADAPTER_NOT_LOADED, or ADAPTER_IN_USE for one of the batch)."""
        if name in self.names:
            raise VeraError(
                f"Rows of the batch go through {name!r}: say with `use` what they go through instead.",
                code="ADAPTER_IN_USE",
            )
        self.packing.remove(name)

    def use(self, names: Sequence[str | None]) -> None:
        """From the next pass on row i of a batch goes through adapter `names[i]`, or through the bare base for None.

        Nothing is waited for, and a captured graph goes on with it when it is replayed on the same stream; rows of one that are not named
        are the bare base's. A replay runs no Python, so that one before this call has the weights from before an exchange
        (`.data = …`), or reads memory that is another's by now where they were not stacked. Raises VeraError (ADAPTER_NOT_LOADED,
        ROWS_MISMATCH for more rows than there is room for, TARGET_REPLACED) and changes nothing then.
        """
        if len(names) > len(self.index):
            raise VeraError(
                f"{len(names)} rows are asked for and this bank takes {len(self.index)} at most: make it with a larger max_rows.",
                code="ROWS_MISMATCH",
            )
        self._keep_up()
        # All rows there are: a graph of more of them would go on with one whose adapter has made room for another's.
        rows = torch.full((len(self.index),), NOBODY, dtype=torch.int32)
        rows[: len(names)] = torch.tensor([self.packing.row_of(name) for name in names], dtype=torch.int32)
        staged = rows.pin_memory() if self.index.is_cuda else rows
        self.index.copy_(staged, non_blocking=True)
        self.names = tuple(names)

    def checked(self, x_BTI: Tensor, module: nn.Module) -> Tensor:
        """`x_BTI`, which `module` is given, when it has as many rows as adapters were set for. Raises VeraError (ROWS_MISMATCH)."""
        self._layout.check(x_BTI, len(self.names), module, "A module")
        return x_BTI

    @property
    def stacked_bytes(self) -> int:
        """What the stacks take beyond the weights that are in them: an A for each group of modules."""
        return sum(group.product.stack.more_bytes for group in self.groups if group.product.stack)

    def unstack(self) -> None:
        """Give every module of the base a weight of its own again, bit for bit."""
        for group in self.groups:
            group.product.unstack()
        self._choose_anew()

    def _keep_up(self) -> None:
        """What somebody has done to the model since: weights that were exchanged are stacked again, or VeraWarning says once
        that they are not. Raises VeraError (TARGET_REPLACED) for a module that is there no more."""
        self._seats.check(self._bank.model)
        apart = [error for group in self.groups if (error := group.product.keep_stacked())]
        if apart:
            self._choose_anew()
            warnings.warn(
                f"{len(apart)} of {len(self.groups)} groups of modules answer without their stack from now on, rightly, but slower "
                f"where batches are large. {apart[0]}",
                VeraWarning,
                stacklevel=3,
            )

    def _choose_anew(self) -> None:
        for mlp in self.mlps.values():
            mlp.product.forget()

    def __enter__(self) -> Self:
        """Raises VeraError (ROWS_ACTIVE for a second time, TARGET_TAKEN, TARGET_REPLACED) and leaves the model as it was then."""
        if self._leaving is not None:
            raise VeraError(
                "The batches go through this packed bank already: leave its block first.", code="ROWS_ACTIVE"
            )
        self._keep_up()
        with ExitStack() as entered:
            entered.enter_context(_bare(self._bank))
            check_alone(self._bank.model)
            for group in self.groups:
                for member, forward in zip(group.product.members, group.forwards(), strict=True):
                    entered.callback(Hung.on(member.module, forward, is_marked=self._is_marked).take_down)
            for mlp in self.mlps.values():
                entered.callback(Hung.on(mlp.module, _MlpForward(mlp, self), is_marked=False).take_down)
            self._leaving = entered.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.close()


class _Group:
    """Modules with one input: the first that is called answers for all of them."""

    def __init__(self, members: Sequence[tuple[nn.Module, Any]], bank: PackedBank) -> None:
        self.product = GroupProduct(
            [Member(module, module.forward, places) for module, places in members],
            bank.shared,
            bank.packing,
            bank.index,
        )
        self._bank = bank
        self._input: Tensor | None = None
        self._held: dict[int, Tensor] = {}
        self._is_alone = len(members) == 1

    def forwards(self) -> list[_MemberForward]:
        return [_MemberForward(self, number) for number in range(len(self.product.members))]

    def output(self, number: int, x_BTI: Tensor) -> Tensor:
        if self._is_alone:
            return self.product.outputs(self._checked(x_BTI), self._bank.choices)[0]
        if x_BTI is self._input and number in self._held:
            return self._taken(number)
        if number:  # the first one was given something else
            return self.product.alone(self.product.members[number], self._checked(x_BTI))
        self._input, self._held = (
            x_BTI,
            dict(enumerate(self.product.outputs(self._checked(x_BTI), self._bank.choices))),
        )
        return self._taken(0)

    def _checked(self, x_BTI: Tensor) -> Tensor:
        return self._bank.checked(x_BTI, self.product.members[0].module)

    def _taken(self, number: int) -> Tensor:
        output = self._held.pop(number)
        if not self._held:
            self._input = None
        return output


class _MemberForward(Adapting):
    def __init__(self, group: _Group, number: int) -> None:
        self._group, self._number = group, number

    def __call__(self, x_BTI: Tensor) -> Tensor:
        return self._group.output(self._number, x_BTI)


class _MlpForward(Adapting):
    """The whole of an MLP; its own forward, in which each module answers for itself, where it is not fused."""

    def __init__(self, mlp: GatedMlp, bank: PackedBank) -> None:
        self._mlp, self._bank = mlp, bank

    def __call__(self, x_BTI: Tensor) -> Tensor:
        if not self._mlp.is_fused(x_BTI):
            return self._mlp.own(x_BTI)  # type: ignore[no-any-return]  # a module of anybody's
        hidden_BTO = self._mlp.product.output(self._bank.checked(x_BTI, self._mlp.module), self._bank.choices)
        return self._mlp.module.down_proj(hidden_BTO)  # type: ignore[no-any-return]  # likewise


@contextmanager
def _bare(bank: Bank) -> Iterator[None]:
    """Within the block passes go through nothing of `bank`; after it through what they did before, or the base where that has
    been removed."""
    bank.check_free()
    active = dict(bank.weights)
    bank.activate(None)
    try:
        yield
    finally:
        if active.keys() <= bank.slots.keys():
            bank.combine(active)


def _deltas_of(bank: Bank, name: str) -> dict[str, VeraDelta]:
    slot = bank.slot(name)
    if slot.heads:
        raise _unsupported(f"{name!r} has a head in the model")
    deltas = {}
    for module, delta in slot.deltas.items():
        if not isinstance(delta, VeraDelta) or isinstance(delta, DvoraDelta):
            raise _unsupported(f"{name!r} is no adapter of the method vera")
        if not is_linear(bank.targets[module]):
            raise _unsupported(f"{module}, an embedding, is adapted")
        deltas[module] = delta
    return deltas


def _one_projection(deltas: dict[str, VeraDelta]) -> SharedProjection:
    pairs = {id(delta.shared): delta.shared for delta in deltas.values()}
    if len(pairs) != 1:
        raise _unsupported("the model is on several devices")
    return next(iter(pairs.values()))


def _one_device(targets: dict[str, nn.Module]) -> torch.device:
    devices = {device_of(module) for module in targets.values()}
    if len(devices) != 1:
        raise _unsupported(f"the model is on {len(devices)} devices")
    return devices.pop()


def _dtype_of_vectors(asked: torch.dtype | None, targets: Mapping[str, nn.Module]) -> torch.dtype:
    if asked is not None and not asked.is_floating_point:
        raise VeraError(
            f"Vectors cannot be held in {asked}, which has no fractions: give a float dtype, or none.",
            code="DTYPE_INVALID",
        )
    own = weight_of(next(iter(targets.values()))).dtype
    return asked or (own if own.is_floating_point else torch.float32)


def _unsupported(why: str) -> TargetError:
    return TargetError(f"A packed bank cannot hold this: {why}. Use `Bank.rows`, which can.", code="TARGET_UNSUPPORTED")


def _described(name: str, modules: dict[str, nn.Module]) -> AdaptedModule:
    return AdaptedModule(name, *linear_size(modules[name]))
