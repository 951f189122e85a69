"""The vectors of many adapters in one tensor, a row for each: a batch says by numbers which rows it needs."""

# S adapters, V columns, R rank

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vera.archive import Vectors
from vera.errors import VeraError
from vera.manifest import AdaptedModule

NOBODY = 0  # the row of zeros, for a batch row without an adapter
_ALIGNED = 8  # columns begin at multiples of it: 16 bytes of a half-precision row


@dataclass(frozen=True)
class Places:
    """The columns at which λd (rank) and λb (out_features) of a module begin."""

    lambda_d: int
    lambda_b: int


class Packing:
    """Room for `capacity` adapters of `groups` of modules. λd of a group's modules lie side by side, `rank` columns each.

    A rank is padded with zeros to `padded_rank`. What is inserted beyond the capacity takes the place of
    what was used longest ago. Nothing is ever moved: a captured graph goes on with the same addresses.
    """

    def __init__(
        self, groups: Sequence[Sequence[AdaptedModule]], *, rank: int, padded_rank: int, capacity: int,
        dtype: torch.dtype, device: torch.device,
    ) -> None:  # fmt: skip
        if capacity < 1:
            raise VeraError(f"The capacity is {capacity}: give room for one adapter at least.", code="CAPACITY_INVALID")
        self.rank, self.capacity = rank, capacity
        self.modules = {module.name: module for group in groups for module in group}
        self.places, width = _laid_out(groups, padded_rank)
        self.rows_SV = torch.zeros(capacity + 1, width, dtype=dtype, device=device)
        self._row_of: OrderedDict[str, int] = OrderedDict()  # longest unused first
        self._free = list(range(capacity, NOBODY, -1))

    def __contains__(self, name: str) -> bool:
        return name in self._row_of

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def names(self) -> tuple[str, ...]:
        """Every adapter here, the one used longest ago first."""
        return tuple(self._row_of)

    def put(self, name: str, vectors: Vectors, *, kept: frozenset[str] = frozenset()) -> None:
        """Insert the adapter `name`, or replace its vectors; none of `kept` makes room for it.

        Modules that the adapter does not adapt get zeros. Raises VeraError (DIMS_MISMATCH for vectors of other
        modules or sizes, BANK_FULL when every adapter here is kept) and leaves the bank as it was, as when memory runs out.
        """
        staged = self._staged(name, vectors).to(
            self.rows_SV.device, non_blocking=True
        )  # before a place is taken: it may fail
        row = self._row_of.get(name)
        self._row_of[name] = self._room(kept) if row is None else row
        self._row_of.move_to_end(name)
        self.rows_SV[self._row_of[name]].copy_(staged)

    def remove(self, name: str) -> None:
        """Forget `name`; its row may be taken by another. Raises VeraError (ADAPTER_NOT_LOADED)."""
        self.row_of(name)
        self._free.append(self._row_of.pop(name))

    def row_of(self, name: str | None) -> int:
        """The row of `name`, used now; that of zeros for None. Raises VeraError (ADAPTER_NOT_LOADED)."""
        if name is None:
            return NOBODY
        if name not in self._row_of:
            raise VeraError(
                f"No adapter {name!r} is in this bank ({len(self)} of {self.capacity} places are taken): it was never put here, "
                "or made room for another. Put it here again.",
                code="ADAPTER_NOT_LOADED",
            )
        self._row_of.move_to_end(name)
        return self._row_of[name]

    def _room(self, kept: frozenset[str]) -> int:
        if not self._free:
            oldest = next((name for name in self._row_of if name not in kept), None)
            if oldest is None:
                raise VeraError(
                    f"All {self.capacity} places are taken by adapters of the batch that runs: make a bank with a larger capacity, "
                    "or smaller batches.",
                    code="BANK_FULL",
                )
            self._free.append(self._row_of.pop(oldest))
        return self._free.pop()

    def _staged(self, name: str, vectors: Vectors) -> Tensor:
        """The row of `vectors` in memory that a device copies from directly."""
        is_cuda = self.rows_SV.is_cuda
        staged = torch.zeros(self.rows_SV.shape[1], dtype=torch.float32, pin_memory=is_cuda)
        row = staged.numpy()
        for module, lambda_b in vectors.lambda_b.items():
            lambda_d = vectors.lambda_d[module]
            self._check(name, module, lambda_b, lambda_d)
            places = self.places[module]
            row[places.lambda_b : places.lambda_b + len(lambda_b)] = lambda_b
            row[places.lambda_d : places.lambda_d + self.rank] = lambda_d
        return staged

    def _check(self, name: str, module: str, lambda_b: np.ndarray, lambda_d: np.ndarray) -> None:
        known = self.modules.get(module)
        here = (known.out_features, self.rank) if known else None
        if here != (len(lambda_b), len(lambda_d)):
            raise VeraError(
                f"Adapter {name!r} has vectors of {len(lambda_b)} and {len(lambda_d)} for {module}, and this bank "
                f"{'has none for it' if here is None else f'holds {here[0]} and {here[1]}'}: it is of other modules or another rank.",
                code="DIMS_MISMATCH",
                module=module,
            )


def _laid_out(groups: Sequence[Sequence[AdaptedModule]], padded_rank: int) -> tuple[Mapping[str, Places], int]:
    places, at = {}, 0
    for group in groups:
        first_d = at
        at += _aligned(padded_rank * len(group))
        for number, module in enumerate(group):
            places[module.name] = Places(first_d + number * padded_rank, at)
            at += _aligned(module.out_features)
    return places, at


def _aligned(columns: int) -> int:
    return -(-columns // _ALIGNED) * _ALIGNED
