"""What is trained beside the head: an adapter of some method, nothing, or the whole base."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from vera.errors import VeraError, VeraWarning
from vera.manifest import AdaptedModule
from vera.nn.bank import Bank
from vera.nn.layer import LoraDelta
from vera.nn.training.recipe import Recipe
from vera.projection import ProjectionRecipe, digest_of, rebuild

TRAINED = "trained"  # the adapter's name in the bank
LORA_ALPHA_PER_RANK = 2
_MOST_NAMED = 5


@dataclass(frozen=True)
class Trainable:
    """What a method trains. `modules` are adapted, `projection` is the recipe and digest of the frozen pair."""

    parameters: Sequence[nn.Parameter]
    modules: tuple[AdaptedModule, ...] = ()
    projection: tuple[ProjectionRecipe, str] | None = None

    @property
    def items(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters)


@contextmanager
def on(bank: Bank, recipe: Recipe) -> Iterator[Trainable]:
    """Within the block, `bank.model` has what `recipe.method` trains, active and untrained; after it, the model is
    what it was: same modules, same weights, same parameters that want a gradient."""
    wanted = [parameter.requires_grad for parameter in bank.model.parameters()]
    bank.model.requires_grad_(recipe.method == "full")
    try:
        if recipe.method == "full":
            with _kept_weights(bank.model) as parameters:
                yield Trainable(parameters)
        elif recipe.method == "head":
            yield Trainable(())
        else:
            yield _adapter(bank, recipe)
    finally:
        bank.detach()
        for parameter, wants in zip(bank.model.parameters(), wanted, strict=True):
            parameter.requires_grad_(wants)
            parameter.grad = None


def check_reached(bank: Bank) -> None:
    """Looks, once the first gradients are there, whether the answers go through every module that is trained.

    Warns of those that they do not go through, which have none. Raises VeraError (TRAINING_INVALID) when that is all of them.
    """
    deltas = bank.slots[TRAINED].deltas if TRAINED in bank.slots else {}
    idle = sorted(name for name, delta in deltas.items() if all(each.grad is None for each in delta.parameters()))
    if not idle:
        return
    more = f" and {len(idle) - _MOST_NAMED} more" if len(idle) > _MOST_NAMED else ""
    named = f"{', '.join(idle[:_MOST_NAMED])}{more}"
    if len(idle) == len(deltas):
        raise VeraError(
            f"No answer goes through any of the adapted modules ({named}), so nothing would be learned: choose other targets.",
            code="TRAINING_INVALID",
            idle=idle[:20],
        )
    warnings.warn(
        f"No answer of the first step goes through {len(idle)} of the {len(deltas)} adapted modules: {named}. Unless they are "
        "experts that others will go through, they learn nothing: stop, and leave them out of the targets.",
        VeraWarning,
        stacklevel=2,
    )


def _adapter(bank: Bank, recipe: Recipe) -> Trainable:
    modules = bank.modules()
    projection = None
    if recipe.method == "lora":
        bank.add(TRAINED, _lora(modules, recipe))
    else:
        projection = _add_vera(bank, modules, recipe)
    bank.activate(TRAINED)
    return Trainable(bank.parameters(TRAINED), modules, projection)


def _lora(modules: Sequence[AdaptedModule], recipe: Recipe) -> dict[str, LoraDelta]:
    generator, rank = torch.Generator().manual_seed(recipe.seed), recipe.rank
    return {
        m.name: LoraDelta(rank, m.in_features, m.out_features, alpha=LORA_ALPHA_PER_RANK * rank, generator=generator)
        for m in modules
    }


def _add_vera(bank: Bank, modules: Sequence[AdaptedModule], recipe: Recipe) -> tuple[ProjectionRecipe, str]:
    projection = ProjectionRecipe(
        recipe.stream,
        recipe.seed,
        recipe.rank,
        max(m.in_features for m in modules),
        max(m.out_features for m in modules),
    )
    pair = rebuild(projection)
    digest = digest_of(pair)
    bank.add_vera(TRAINED, modules, digest, lambda: pair, method=recipe.method)
    return projection, digest


@contextmanager
def _kept_weights(model: nn.Module) -> Iterator[Sequence[nn.Parameter]]:
    """The parameters of `model`, to be trained within the block and as they were after it."""
    parameters = list(model.parameters())
    kept = [parameter.detach().to("cpu", copy=True) for parameter in parameters]
    try:
        yield parameters
    finally:
        with torch.no_grad():
            for parameter, values in zip(parameters, kept, strict=True):
                parameter.copy_(values)
