"""One training run from start to folder: adapter, scores, baselines, archive."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vera import __version__
from vera.archive import Archive
from vera.data import TEXT_GENERATION, Examples, Split
from vera.errors import VeraError
from vera.folders import LOSS_CURVE, TRAINING_LOG, write_files
from vera.manifest import BaseIdentity
from vera.nn import packaging, processed, targets, tokenized
from vera.nn.attach import live_modules, shared_tensors
from vera.nn.bank import Bank
from vera.nn.base import Base
from vera.nn.hanging import check_bare
from vera.nn.heads import ImageClassifier, TextHead
from vera.nn.modes import evaluating
from vera.nn.packaging import Scores
from vera.nn.training import methods
from vera.nn.training.batches import steps_per_epoch
from vera.nn.training.checkpoints import EVERY_S, Checkpoints, key_of
from vera.nn.training.curve import loss_curve
from vera.nn.training.generation import Generation
from vera.nn.training.loop import Loop
from vera.nn.training.methods import Trainable
from vera.nn.training.pooled import FeatureTask, PooledTask
from vera.nn.training.progress import VALIDATION, Epoch, Fitted, Report, Snapshot
from vera.nn.training.recipe import Recipe
from vera.nn.training.task import Scored, Task, check_metric
from vera.nn.training.tasks import task_of

# After which the head alone has converged: passes over a small set, steps of a large one.
PROBE_EPOCHS, PROBE_STEPS = 100, 20_000
HELDOUT = "held-out"


@dataclass(frozen=True)
class Cost:
    """What a run took: the seconds of training alone and of everything, since it was last begun, and the most memory.

    The memory is torch's on a GPU, and the whole process's on a CPU, whatever else it did before.
    """

    training_s: float
    total_s: float
    peak_bytes: int


@dataclass(frozen=True)
class Outcome:
    """What a run gave: the files of a folder, and the numbers.

    `archive` is the adapter, for methods the hub keeps, and `files` what stands beside it. `epochs` has what was watched, the held-out
    set too where that was asked for. `size_bytes` is the adapter's weights and head in float32.
    """

    archive: Archive | None
    files: Mapping[str, bytes]
    scores: Scores
    epochs: Sequence[Epoch]
    parameters: int
    head_parameters: int
    cost: Cost

    def write(self, folder: str | Path) -> None:
        """All of it as `folder`, or nothing: see `vera.folders.write_files`."""
        archived = self.archive.files if self.archive else {}
        write_files({**archived, **self.files}, Path(folder))

    @property
    def size_bytes(self) -> int:
        return 4 * (self.parameters + self.head_parameters)


@dataclass(frozen=True)
class Choices:
    """What a run does beside its recipe. `targets` are module names' ends; none is the query and value maps."""

    targets: Sequence[str] = ()
    pooling: str | None = None
    license: str | None = None
    baselines: bool = True  # score the head alone, or the bare base, beside what was trained
    watch_heldout: bool = False  # score the held-out set after every epoch, for a curve: it chooses nothing


def run(
    name: str,
    base: Base,
    split: Split,
    recipe: Recipe,
    choices: Choices = Choices(),  # frozen
    *,
    work: str | Path | None = None,
    checkpoint_every_s: float = EVERY_S,
    stage: Callable[[str], None] = lambda _stage: None,
    report: Report | None = None,
    examine: Callable[[nn.Module], None] | None = None,
) -> Outcome:
    """Train `recipe.method` on `split`, and score it on the held-out set beside what it must beat.

    With `work`, a folder for checkpoints, a run that was killed goes on where it was and gives the
    same bytes; whoever has written the outcome removes the folder. `stage` is told what begins,
    `report` every step, and `examine` is given the model at the end, while what was trained and is kept hangs on it.
    The base is proven first and left as it was. Raises BaseMismatch,
    TargetError, ArchiveError or ManifestError for what could not be kept, or VeraError (TARGET_TAKEN while an adapter is active on it, TRAINING_INVALID, TRAINING_DIVERGED, METRIC_UNKNOWN).
    """
    started = time.monotonic()
    stage("proving the base")
    run = _prepare(name, base, split, recipe, choices)
    checkpoints = Checkpoints(Path(work), _key(run), every_s=checkpoint_every_s) if work else None
    with evaluating(base.model):
        trained = _train(run, checkpoints, stage, report, examine)
        scores = _scores(run, trained, _baselines(run, stage) if choices.baselines else {})
    cost = Cost(trained.training_s, time.monotonic() - started, trained.peak_bytes)
    archive, files = _files(run, trained, scores)
    head = run.task.head_parameters()
    return Outcome(
        archive, files, scores, trained.fitted.epochs, trained.parameters, sum(p.numel() for p in head), cost
    )


@dataclass(frozen=True)
class _Run:
    """What a run is about, checked. `identity` is the base's, with how its texts or images are read."""

    name: str
    base: Base
    identity: BaseIdentity
    split: Split
    recipe: Recipe
    choices: Choices
    bank: Bank
    task: Task[Any]
    metric: str


@dataclass(frozen=True)
class _Trained:
    """What training gave, apart from the model it was trained on."""

    fitted: Fitted
    last: Scored
    best: Scored | None
    learned: packaging.Learned | None
    parameters: int
    training_s: float
    peak_bytes: int


def _prepare(name: str, base: Base, split: Split, recipe: Recipe, choices: Choices) -> _Run:
    proof = base.prove()
    check_bare(base.model)
    live = live_modules(base.model, proof)
    _check(base, split, recipe)
    adapts = recipe.method not in ("head", "full")
    chosen = {id(module) for module in targets.choose(base.model, choices.targets).values()} if adapts else set()
    adapted = {name: module for name, module in live.items() if id(module) in chosen}
    bank = Bank(adapted, base.model, shared_tensors(proof))
    split = split.with_validation() if recipe.watches else split
    task = task_of(split, base.model, recipe, pooling=choices.pooling)
    metric = check_metric(task, recipe.metric)
    return _Run(name, base, _identity(base, task, recipe), split, recipe, choices, bank, task, metric)


def _identity(base: Base, task: Task[Any], recipe: Recipe) -> BaseIdentity:
    """The base, with how `task` has its texts or images read."""
    if isinstance(task, Generation):
        return replace(base.identity, tokenizer=tokenized.record_of(task.tokenizer, generates=True, chat=recipe.chat))
    if isinstance(task.head, ImageClassifier):
        return replace(base.identity, processor=processed.record_of(task.head.processor))
    assert isinstance(task.head, TextHead)
    return replace(base.identity, tokenizer=tokenized.record_of(task.head.tokenizer))


def _check(base: Base, split: Split, recipe: Recipe) -> None:
    if base.quantization and recipe.method == "full":
        raise VeraError(
            f"All weights are trained, and the base is held in {base.quantization}, which has no gradients: load it as it is "
            "stored, or train an adapter.",
            code="TRAINING_INVALID",
        )
    dtype = next(base.model.parameters()).dtype
    if dtype != torch.float32 and (recipe.dtype == "float32" or recipe.method == "full"):
        why = "All weights are trained" if recipe.method == "full" else "The recipe asks for float32"
        raise VeraError(
            f"{why}, and the base is loaded in {dtype}, whose steps would be lost in rounding: load it in float32.",
            code="TRAINING_INVALID",
        )
    if recipe.method == "head" and split.task == TEXT_GENERATION:
        raise VeraError(
            "A generator has no head of its own to train alone: choose another method.", code="TRAINING_INVALID"
        )


def _train(
    run: _Run,
    checkpoints: Checkpoints | None,
    stage: Callable[[str], None],
    report: Report | None,
    examine: Callable[[nn.Module], None] | None,
) -> _Trained:
    task, recipe, device = run.task, run.recipe, next(run.base.model.parameters()).device
    if recipe.method == "head":
        assert isinstance(task, PooledTask)
        task = FeatureTask(task)
    saved = checkpoints.load() if checkpoints else None
    with methods.on(run.bank, recipe) as trainable:
        _check_it_can_be_kept(run, trainable)
        stage("training, from where it was interrupted" if saved else "training")
        _reset_peak(device)
        started = time.monotonic()
        loop = Loop(
            task, trainable.parameters, run.split.train, recipe,
            watched=_watched(run), report=report, checkpoints=checkpoints, saved=saved,
            examine=partial(methods.check_reached, run.bank),
        )  # fmt: skip
        fitted = loop.run()
        training_s, peak_bytes = time.monotonic() - started, _peak(device)
        stage("scoring the held-out set")
        last = _score(loop, fitted.last, run.split.heldout)
        best = fitted.best and _score(loop, fitted.best, run.split.heldout)
        if recipe.keep == "last":
            loop.take(fitted.last)
        if examine:
            stage("looking at what was trained")
            examine(run.base.model)
        learned = packaging.Learned.on(run.bank, trainable, task.head) if trainable.modules else None
    return _Trained(fitted, last, best or None, learned, trainable.items, training_s, peak_bytes)


def _check_it_can_be_kept(run: _Run, trainable: Trainable) -> None:
    """Raises what packing would raise in hours: of an adapter that is too large, or labels that no manifest can name."""
    if trainable.projection is not None:
        unscored = Scores(run.metric, len(run.split.heldout), run.recipe.keep, 0, {run.metric: 0.0})
        packaging.vera_archive(packaging.Learned.on(run.bank, trainable, run.task.head), _about(run, unscored))


def _watched(run: _Run) -> dict[str, Examples]:
    parts = {VALIDATION: run.split.validation, HELDOUT: run.split.heldout if run.choices.watch_heldout else None}
    return {name: examples for name, examples in parts.items() if examples is not None}


def _score(loop: Loop, snapshot: Snapshot, examples: Examples) -> Scored:
    loop.take(snapshot)
    return loop.score(examples)


def _baselines(run: _Run, stage: Callable[[str], None]) -> dict[str, Scored]:
    """What the trained must beat, on the held-out set. The base is bare again, and the head is written over."""
    stage("scoring what it must beat")
    found: dict[str, Scored] = {}
    if isinstance(run.task, PooledTask) and run.recipe.method != "head":
        features = FeatureTask(run.task)
        found["head_only"] = _head_alone(run, features, run.recipe.epochs)
        found["probe"] = _head_alone(run, features, _probe_epochs(run))
    if isinstance(run.task, Generation):
        found["base"] = run.task.score(run.split.heldout)
    if trivial := run.split.baseline:
        found["trivial"] = {trivial.metric: trivial.value}
    return found


def _probe_epochs(run: _Run) -> int:
    per_epoch = steps_per_epoch(len(run.split.train), run.recipe.batch_size, run.recipe.accumulation)
    return max(run.recipe.epochs, min(PROBE_EPOCHS, PROBE_STEPS // per_epoch))


def _head_alone(run: _Run, features: FeatureTask, epochs: int) -> Scored:
    recipe = replace(run.recipe, method="head", epochs=epochs, validation=False, keep="last", patience=None)
    loop = Loop(features, (), run.split.train, recipe)
    return _score(loop, loop.run().last, run.split.heldout)


def _scores(run: _Run, trained: _Trained, baselines: Mapping[str, Scored]) -> Scores:
    fitted, kept = trained.fitted, run.recipe.keep
    return Scores(
        run.metric, len(run.split.heldout), kept, fitted.last.epoch, trained.last,
        fitted.best.epoch if fitted.best else None, trained.best, baselines,
    )  # fmt: skip


def _files(run: _Run, trained: _Trained, scores: Scores) -> tuple[Archive | None, dict[str, bytes]]:
    """The adapter's archive, for a method of the hub, and what else belongs in the folder."""
    fitted, learned = trained.fitted, trained.learned
    about = _about(run, scores)
    files = {
        TRAINING_LOG: packaging.training_log(fitted.steps, fitted.epochs),
        LOSS_CURVE: loss_curve(fitted.steps, fitted.epochs, run.metric, scores.best_epoch),
    }
    if learned is not None and learned.projection is not None:
        return packaging.vera_archive(learned, about), files
    return None, {**files, **packaging.plain_files(learned, about)}


def _about(run: _Run, scores: Scores) -> packaging.About:
    return packaging.About(
        run.name, run.identity, run.split, run.recipe, scores, run.choices.license, run.task.head,
        run.base.quantization,
    )  # fmt: skip


def _key(run: _Run) -> str:
    """Everything that decides the bytes a run gives, but the machine's own arithmetic."""
    held, identity = next(run.base.model.parameters()), run.identity
    return key_of(
        {
            "vera-hub": __version__,
            "torch": torch.__version__,
            "device": held.device.type,
            "held": str(held.dtype),
            "base": run.base.fingerprint.value,
            "configured": identity.config and identity.config.all,
            "tokenizer": identity.tokenizer and asdict(identity.tokenizer),
            "processor": identity.processor,
            "quantization": run.base.quantization,
            "recipe": run.recipe.to_dict(),
            "targets": sorted(run.bank.targets),
            "pooling": run.task.head.pooling if run.task.head else None,
            "watched": sorted(_watched(run)),
            "data": run.split.digest,
        }
    )


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    in_units = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return in_units if sys.platform == "darwin" else in_units * 1024
