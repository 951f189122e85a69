"""An adapter before its first step, as an archive: for whoever trains it with a loop of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vera import __version__
from vera import archive as archives
from vera.archive import Archive
from vera.data import TEXT_GENERATION
from vera.manifest import BEGUN, BaseIdentity, Manifest, Task
from vera.nn import card, targets
from vera.nn.attach import live_modules, shared_tensors
from vera.nn.bank import Bank
from vera.nn.base import Base
from vera.nn.slots import read
from vera.nn.training import methods
from vera.nn.training.recipe import Recipe
from vera.peft_format import FEATURE_EXTRACTION


def archive_of(
    base: Base,
    identity: BaseIdentity,
    recipe: Recipe,
    *,
    name: str,
    suffixes: Sequence[str],
    generates: bool,
    license: str | None,
) -> Archive:
    """The sealed archive of an adapter of `base` as `recipe` begins it (method, rank, stream, seed), which changes no answer yet.

    `suffixes` are the ends of the names of its modules, `all-linear`, or none for the query and value maps. It `generates`, or gives hidden
    states. Raises BaseMismatch, TargetError, RecipeError.
    """
    proof = base.prove()
    chosen = {id(module) for module in targets.choose(base.model, suffixes).values()}
    adapted = {name: module for name, module in live_modules(base.model, proof).items() if id(module) in chosen}
    bank = Bank(adapted, base.model, shared_tensors(proof))
    with methods.on(bank, recipe) as begun:
        assert begun.projection is not None
        data, weights, head = archives.pack(read(bank.slot(methods.TRAINED)))
    manifest = Manifest(
        base=identity,
        recipe=begun.projection[0],
        projection_digest=begun.projection[1],
        modules=begun.modules,
        weights=weights,
        method=recipe.method,
        head=head,
        task=Task(TEXT_GENERATION if generates else FEATURE_EXTRACTION),
        training={BEGUN: {"made_with": {"vera-hub": __version__, "torch": str(torch.__version__)}}},
        license=license,
    )
    return archives.seal(manifest, data, card.of_begun(name, manifest))
