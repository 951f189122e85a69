"""One training run from start to folder: baseline, adapter, scores, archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from vera.archive import TRAINING_LOG, Archive
from vera.data import Split
from vera.fingerprint import BaseFingerprint
from vera.manifest import AdaptedModule, BaseIdentity
from vera.nn import packaging, training
from vera.nn.attach import live_modules
from vera.nn.bank import Bank, find_targets
from vera.nn.heads import PooledClassifier
from vera.nn.identity import prove_base
from vera.nn.layer import LoraDelta
from vera.nn.linear import linear_size
from vera.nn.packaging import Scores
from vera.nn.training import Recipe, Report, Step
from vera.projection import ProjectionRecipe, digest_of, rebuild

_TRAINED = "trained"


@dataclass(frozen=True)
class Base:
    """The model to adapt and who it is."""

    model: nn.Module
    fingerprint: BaseFingerprint
    name: str
    revision: str | None = None

    @property
    def identity(self) -> BaseIdentity:
        return BaseIdentity(self.name, self.fingerprint.value, self.fingerprint.dtype, self.revision)


@dataclass(frozen=True)
class Outcome:
    """What a run gave: `archive` for VeRA (LoRA has none), every file of the folder, and the scores."""

    archive: Archive | None
    files: Mapping[str, bytes]
    scores: Scores
    parameters: int
    head_parameters: int


def run(
    name: str,
    base: Base,
    split: Split,
    recipe: Recipe,
    *,
    targets: Sequence[str],
    pooling: str = "mean",
    license: str | None = None,
    stage: Callable[[str], None] = lambda _stage: None,
    report: Report | None = None,
) -> Outcome:
    """Train `recipe.method` on `split` and score it beside the head alone and the majority label.

    `stage` is told what begins, `report` every step. The base is proven first and left as it was.
    Raises BaseMismatch, TargetError, or VeraError (TRAINING_DIVERGED).
    """
    stage("proving the base")
    live = live_modules(base.model, prove_base(base.model, base.fingerprint))
    chosen = {id(module) for module in find_targets(base.model, targets).values()}
    bank = Bank({name: module for name, module in live.items() if id(module) in chosen}, base.model)
    classifier = PooledClassifier(base.model, split.labels, pooling=pooling, max_length=recipe.max_length)
    stage("training the head alone on the frozen base")
    head_only = _head_accuracy(classifier, split, recipe, recipe.epochs)
    probe = _head_accuracy(classifier, split, recipe, training.PROBE_EPOCHS)
    stage("training the adapter")
    history: list[Step] = []
    projection = _add_adapter(bank, recipe)
    bank.activate(_TRAINED)
    try:
        training.train(classifier, bank.parameters(_TRAINED), split, recipe, _recording(history, report))
        stage("scoring the held-out texts")
        adapter = training.accuracy(classifier, split.heldout)
        scores = Scores(adapter, head_only, probe, split.majority, len(split.heldout))
        archive, files = None, {}
        if projection:
            archive = packaging.vera_archive(
                bank, classifier, name=name, base=base.identity, modules=_modules(bank), projection=projection,
                split=split, recipe=recipe, scores=scores, license=license,
            )  # fmt: skip
        else:
            files = packaging.lora_files(bank, classifier, base=base.identity, recipe=recipe, scores=scores)
        parameters = sum(p.numel() for p in bank.parameters(_TRAINED))
    finally:
        bank.detach()
    head_parameters = sum(p.numel() for p in classifier.classifier.parameters())
    log = packaging.training_log(history)
    return Outcome(archive, {**files, TRAINING_LOG: log}, scores, parameters, head_parameters)


def _head_accuracy(classifier: PooledClassifier, split: Split, recipe: Recipe, epochs: int) -> float:
    training.train_head(classifier, split, recipe, epochs=epochs)
    return training.accuracy(classifier, split.heldout)


def _add_adapter(bank: Bank, recipe: Recipe) -> tuple[ProjectionRecipe, str] | None:
    """Put an untrained adapter on the bank; the projection's recipe and digest, None for LoRA."""
    modules = _modules(bank)
    if recipe.method == "lora":
        generator = torch.Generator().manual_seed(recipe.seed)
        deltas = {
            m.name: LoraDelta(recipe.rank, m.in_features, m.out_features, alpha=2 * recipe.rank, generator=generator)
            for m in modules
        }
        bank.add(_TRAINED, deltas)
        return None
    projection = ProjectionRecipe(
        recipe.stream,
        recipe.seed,
        recipe.rank,
        max(m.in_features for m in modules),
        max(m.out_features for m in modules),
    )
    pair = rebuild(projection)
    digest = digest_of(pair)
    bank.add_vera(_TRAINED, modules, digest, lambda: pair, method=recipe.method)
    return projection, digest


def _modules(bank: Bank) -> list[AdaptedModule]:
    return [AdaptedModule(name, *linear_size(module)) for name, module in sorted(bank.targets.items())]


def _recording(history: list[Step], report: Report | None) -> Report:
    def record(step: Step) -> None:
        history.append(step)
        if report:
            report(step)

    return record
