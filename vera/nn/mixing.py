"""Several deltas of one module at once: a weighted sum of them, or one for each row of a batch."""

# B batch, T tokens, I in_features, O out_features, R rank

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vera.errors import VeraError
from vera.nn.dvora import DvoraDelta, rescaled
from vera.nn.layer import Added, Delta, VeraDelta, scaled_projection


@dataclass(frozen=True, eq=False)
class WeightedSum:
    """Σ weight · delta."""

    terms: Sequence[tuple[float, Delta]]

    def __call__(self, x_BTI: Tensor, plain_BTO: Tensor) -> Tensor:
        return sum((weight * delta(x_BTI, plain_BTO) for weight, delta in self.terms), start=x_BTI.new_zeros(()))


@dataclass(frozen=True, eq=False)
class VeraRows:
    """Deltas of one projection: two dense products for all rows, and two vectors for each. Row i goes through
    `deltas[places[i]]`, or through `deltas[i]` without places."""

    deltas: Sequence[VeraDelta]
    places: Tensor | None = None

    def __call__(self, x_BTI: Tensor, plain_BTO: Tensor) -> Tensor:
        # Stacked at every pass, so that a step of an optimiser between two passes is seen.
        lambda_d_BR = _beside_tokens([delta.lambda_d for delta in self.deltas], self.places, plain_BTO)
        lambda_b_BO = _beside_tokens([delta.lambda_b for delta in self.deltas], self.places, plain_BTO)
        return scaled_projection(self.deltas[0].shared, x_BTI, lambda_d_BR, lambda_b_BO)


@dataclass(frozen=True, eq=False)
class DvoraRows:
    """The same of DVoRA, with a gain for each."""

    deltas: Sequence[DvoraDelta]
    places: Tensor | None = None

    def __call__(self, x_BTI: Tensor, plain_BTO: Tensor) -> Tensor:
        gains = [delta.gain() for delta in self.deltas]
        lambda_d_BR = _beside_tokens([delta.lambda_d for delta in self.deltas], self.places, plain_BTO)
        lambda_b_BO = _beside_tokens(
            [gain * delta.lambda_b for gain, delta in zip(gains, self.deltas, strict=True)], self.places, plain_BTO
        )
        direction_BTO = scaled_projection(self.deltas[0].shared, x_BTI, lambda_d_BR, lambda_b_BO)
        return direction_BTO + rescaled(self.deltas[0].module, plain_BTO, _beside_tokens(gains, self.places, plain_BTO))


# Models of transformers that put the tokens before the rows within (XLNet, FSMT), or for some of their modules (Longformer, LED).
TOKENS_FIRST = frozenset({"xlnet", "fsmt", "longformer", "led"})


class Layout:
    """Where the rows of a batch are in what the modules of one model are given.

    Of models of transformers that is known. Of anybody's own a module is held to nothing once it was given a batch that shows it: as
    many rows first as adapters were set for, and another number of tokens.
    """

    def __init__(self, model: nn.Module | None) -> None:
        kind = getattr(getattr(model, "config", None), "model_type", None)
        self._is_swapped = kind in TOKENS_FIRST
        own = set(model.modules()) if model is not None and not _is_of_transformers(model) else set()
        for module in [module for module in own if _is_of_transformers(module)]:
            own.difference_update(module.modules())
        self._unshown = {id(module) for module in own}

    def check(self, x_BTI: Tensor, rows: int, module: nn.Module, name: str) -> None:
        """Raises VeraError (ROWS_MISMATCH) unless the first dimension of what `module` is given is that of `rows` rows, and can be told
        from the tokens where those may stand first."""
        is_first, is_square = x_BTI.dim() > 1 and x_BTI.shape[0] == rows, x_BTI.dim() > 2 and x_BTI.shape[1] == rows
        is_unshown = id(module) in self._unshown
        if is_first and not (rows > 1 and is_square and (self._is_swapped or is_unshown)):
            if is_unshown and x_BTI.dim() > 2 and not is_square:
                self._unshown.discard(id(module))
            return
        why = ""
        if is_first and self._is_swapped:
            why = (
                f", and {rows} tokens: this model puts tokens before rows within, and the two cannot be told apart. Run the batch "
                "with another number of tokens, or each adapter by itself"
            )
        elif is_first:
            why = (
                f", and {rows} tokens: nobody knows whether this model puts tokens before rows within, and the two cannot be told apart. "
                "Run a batch with another number of tokens first, which shows it"
            )
        raise VeraError(
            f"{name} was given inputs of shape {tuple(x_BTI.shape)}, and adapters were set for {rows} rows{why}: set one per row of "
            "the batch, which must be the first dimension inside the model too (beam search repeats each row once per beam).",
            code="ROWS_MISMATCH",
            module=name,
            rows=rows,
            shape=list(x_BTI.shape),
        )


def _is_of_transformers(module: nn.Module) -> bool:
    return any(kind.__module__.startswith("transformers.models.") for kind in type(module).__mro__)


@dataclass(frozen=True, eq=False)
class PerRow:
    """Row i of a batch through delta i of `module`, or through none.

    `groups` are what rows share, with the numbers of those rows; `order[i]` is where row i stands
    when the groups and then the `bare` rows are laid one after the other.
    """

    name: str
    module: nn.Module
    groups: Sequence[tuple[Tensor, Added]]
    bare: int
    order: Tensor
    layout: Layout

    def __call__(self, x_BTI: Tensor, plain_BTO: Tensor) -> Tensor:
        self.layout.check(x_BTI, len(self.order), self.module, self.name)
        if len(self.groups) == 1 and not self.bare:
            return self.groups[0][1](x_BTI, plain_BTO)
        parts = [added(x_BTI[rows], plain_BTO[rows]) for rows, added in self.groups]
        nothing = parts[0].new_zeros(self.bare, *parts[0].shape[1:])
        return torch.cat([*parts, nothing])[self.order]


def per_row(
    name: str, module: nn.Module, deltas: Sequence[Delta | None], device: torch.device, layout: Layout
) -> PerRow:
    """What `module` adds to a batch whose row i goes through `deltas[i]`; at least one is not None."""
    grouped = _by_projection(deltas)
    bare = [row for row, delta in enumerate(deltas) if delta is None]
    laid_out = [row for members in grouped for row in members] + bare
    return PerRow(
        name,
        module,
        [
            (torch.tensor(list(members), device=device), _together(list(members.values()), device))
            for members in grouped
        ],
        len(bare),
        torch.tensor(laid_out, device=device).argsort(),
        layout,
    )


def _by_projection(deltas: Sequence[Delta | None]) -> Sequence[Mapping[int, Delta]]:
    """Deltas by row number, together when they share a method and a projection. One without shares with itself alone."""
    grouped: dict[tuple[type, int], dict[int, Delta]] = {}
    for row, delta in enumerate(deltas):
        if delta is not None:
            shared = delta.shared if isinstance(delta, VeraDelta) else delta
            grouped.setdefault((type(delta), id(shared)), {})[row] = delta
    return list(grouped.values())


def _together(deltas: Sequence[Delta], device: torch.device) -> Added:
    """The deltas of rows as one; what several rows go through stands in it once."""
    once = list({id(delta): delta for delta in deltas}.values())
    places = None
    if len(once) < len(deltas):
        place_of = {id(delta): place for place, delta in enumerate(once)}
        places = torch.tensor([place_of[id(delta)] for delta in deltas], device=device)
    if dvora := [delta for delta in once if isinstance(delta, DvoraDelta)]:
        return DvoraRows(dvora, places)
    vera = [delta for delta in once if isinstance(delta, VeraDelta)]
    return VeraRows(vera, places) if vera else deltas[0]


def _beside_tokens(vectors: Sequence[Tensor], places: Tensor | None, plain_BTO: Tensor) -> Tensor:
    """One vector (N,) per row as (B, 1, N), with as many ones as `plain_BTO` has dimensions between."""
    stacked = torch.stack(list(vectors))
    rows = stacked if places is None else stacked[places]
    return rows.view(len(rows), *[1] * (plain_BTO.dim() - 2), -1)
