"""`vera-hub train`: from examples to a folder that `vera-hub push` takes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sdk import bases, digest_books, tensor_tables
from sdk.cli import terminal
from sdk.cli.sections import SectionedCommand, SectionedOption
from vera.data import TASKS
from vera.projection import STREAMS

if TYPE_CHECKING:
    from sdk.config import Config
    from vera.data import Split
    from vera.nn.base import Base
    from vera.nn.experiment import Choices, Outcome
    from vera.nn.training.progress import Step
    from vera.nn.training.recipe import Recipe

_F = TypeVar("_F", bound=Callable[..., Any])
_METHODS = {"vera": "VeRA", "dvora": "DVoRA", "lora": "LoRA", "head": "head alone", "full": "the whole base"}
_POSITIVE = click.FloatRange(min=0, min_open=True)
_SHARE = click.FloatRange(0, 1, max_open=True)


def _list_recipes(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from vera.nn.training.recipes import RECIPES

    columns = ("name", "rank", "epochs", "batch", "lr", "head lr", "schedule", "warm-up", "source")
    rows = [(name, *_described(known.recipe), known.source) for name, known in RECIPES.items()]
    terminal.say_table(columns, rows, right=("rank", "epochs", "batch", "lr", "head lr"))
    context.exit()


def _described(recipe: Recipe) -> tuple[object, ...]:
    batch = f"{recipe.batch_size} × {recipe.accumulation}" if recipe.accumulation > 1 else str(recipe.batch_size)
    warmup = f"{recipe.warmup:.0%}" if recipe.warmup_steps is None else f"{recipe.warmup_steps} steps"
    rates = (f"{recipe.learning_rate:g}", f"{recipe.head_learning_rate:g}")
    return recipe.rank, recipe.epochs, batch, *rates, recipe.schedule, warmup


def _options(section: str, *options: tuple[Any, ...]) -> Callable[[_F], _F]:
    """Options of one section, each as (names…, settings)."""

    def add(command: _F) -> _F:
        for *names, settings in reversed(options):
            command = click.option(*names, cls=SectionedOption, section=section, **settings)(command)
        return command

    return add


_common = _options(
    "What to train",
    ("--base", {"metavar": "BASE", "required": True, "help": "A base this machine knows (`vera-hub base add`), or a folder."}),
    ("--data", "source", {"metavar": "DATA", "required": True, "help": "demo/topics, a file, a folder, or a data set of Hugging Face."}),
    ("--method", {"type": click.Choice(list(_METHODS)), "help": "Default: vera. The last three are to compare with."}),
    ("--recipe", "recipe_name", {"metavar": "NAME", "help": "A recipe of the paper, such as glue-base/mrpc. Other options override it."}),
    ("--list-recipes", {"is_flag": True, "is_eager": True, "expose_value": False, "callback": _list_recipes, "help": "Show them, and stop."}),
    ("--rank", {"metavar": "N", "type": click.IntRange(1, 4096), "help": "Default: 256 for VeRA, 8 for LoRA."}),
    ("--epochs", {"metavar": "N", "type": click.IntRange(1, 10_000), "help": "Passes over the training set."}),
    ("--lr", "learning_rate", {"metavar": "RATE", "type": _POSITIVE, "help": "Learning rate of the adapter."}),
    ("--head-lr", "head_learning_rate", {"metavar": "RATE", "type": _POSITIVE, "help": "And of the head."}),
    ("--seed", {"metavar": "N", "type": click.IntRange(0, 2**31 - 1), "help": "Default: 0. The same seed gives the same bytes."}),
)  # fmt: skip
_data = _options(
    "The data",
    ("--task", {"type": click.Choice(TASKS), "help": "Found from the columns otherwise; regression has to be asked for."}),
    ("--text", {"metavar": "COLUMN", "help": "The column of texts or prompts, or two: a,b. Found by name otherwise."}),
    ("--label", {"metavar": "COLUMN", "help": "The column of labels, numbers or completions. Found by name otherwise."}),
    ("--image", {"metavar": "COLUMN", "help": "The column of images."}),
    ("--train", {"metavar": "SPLIT", "help": "The split that is trained on. Default: train."}),
    ("--heldout", {"metavar": "SPLIT", "help": "The split that is held out. Default: test, or validation."}),
    ("--limit", {"metavar": "N", "type": click.IntRange(1), "help": "Read so many rows of each split."}),
    ("--max-length", {"metavar": "N", "type": click.IntRange(1, 1 << 20), "help": "Tokens of an item; the rest is cut off."}),
    ("--chat", {"is_flag": True, "default": None, "help": "Generation: prompts as turns in the base's chat template."}),
)  # fmt: skip
_OF_DATA = ("task", "text", "label", "image", "train", "heldout", "limit")  # what vera.data.load is asked
_adapter = _options(
    "The adapter",
    ("--targets", {"metavar": "NAMES", "default": "", "help": "Modules to adapt, by the end of their names, or all-linear. Default: query and value."}),
    ("--pooling", {"type": click.Choice(["mean", "cls"]), "help": "Default: mean for texts, cls for images."}),
    ("--stream", {"type": click.Choice(STREAMS), "help": f"Generator of the frozen matrices. Default: {STREAMS[0]}, which PEFT can load."}),
    ("--license", "licence", {"metavar": "NAME", "help": "For the manifest, such as apache-2.0."}),
    ("--replace", {"is_flag": True, "help": "In place of what FOLDER holds of the same base and task, whatever that was trained on."}),
)  # fmt: skip
_steps = _options(
    "The steps",
    ("--batch-size", {"metavar": "N", "type": click.IntRange(1, 4096), "help": "Items at a time."}),
    ("--accumulation", {"metavar": "N", "type": click.IntRange(1, 4096), "help": "Batches per step."}),
    ("--schedule", {"type": click.Choice(["linear", "cosine", "constant"]), "help": "After the warm-up. Default: linear."}),
    ("--warmup", {"metavar": "SHARE", "type": _SHARE, "help": "Share of the steps in which the rates rise."}),
    ("--weight-decay", {"metavar": "RATE", "type": click.FloatRange(min=0)}),
    ("--label-smoothing", {"metavar": "SHARE", "type": _SHARE}),
    ("--clip", {"metavar": "NORM", "type": _POSITIVE, "help": "Largest norm of the gradient."}),
    ("--dropout", {"is_flag": True, "default": None, "help": "With the base's own rates."}),
    ("--keep", {"type": click.Choice(["last", "best"]), "help": "Which epoch is the adapter. The best is chosen on a tenth of the training set."}),
    ("--validate", "validation", {"is_flag": True, "default": None, "help": "Score every epoch on such a tenth."}),
    ("--patience", {"metavar": "N", "type": click.IntRange(1), "help": "Stop after so many epochs that were not the best."}),
    ("--metric", {"metavar": "NAME", "help": "What decides which is best. Default: accuracy, pearson or loss."}),
)  # fmt: skip
_machine = _options(
    "The machine",
    ("--device", {"type": click.Choice(["auto", "cpu", "cuda"]), "default": "auto", "show_default": True}),
    ("--dtype", {"type": click.Choice(["stored", "float32", "bfloat16"]), "help": "bfloat16: products in it, over the base as stored."}),
    ("--quantize", {"type": click.Choice(["int8", "nf4"]), "help": "Hold the frozen base in 8 bits (torchao) or 4 (bitsandbytes, on a GPU)."}),
    ("--no-baselines", {"is_flag": True, "help": "Leave out what it is compared with."}),
)  # fmt: skip


@click.command(cls=SectionedCommand)
@click.argument("folder", type=click.Path(path_type=Path))
@_common
@_data
@_adapter
@_steps
@_machine
@click.pass_context
def train(
    context: click.Context,
    /,
    *,
    folder: Path,
    base: str,
    source: str,
    recipe_name: str | None,
    targets: str,
    pooling: str | None,
    licence: str | None,
    replace: bool,
    device: str,
    quantize: str | None,
    no_baselines: bool,
    **options: Any,
) -> None:
    """Train an adapter of a base, and write it to FOLDER.

    A held-out set (a fifth, by the hash of each item, unless the data brings one) is never trained on. The head
    alone on the frozen base is scored beside the adapter. The same command goes on where it was killed.
    """
    _prepare_environment()
    from sdk.endpoints import for_data
    from vera import data
    from vera.folders import check_replaceable, check_writable
    from vera.nn.experiment import Choices
    from vera.nn.packaging import FOLDER_FILES

    check_replaceable(folder, FOLDER_FILES)  # before minutes of work, not after
    check_writable(folder)
    config = terminal.config_of(context)
    split = data.load(
        source, offline=config.offline, endpoint=for_data(config), **{name: options.pop(name) for name in _OF_DATA}
    )
    recipe = _recipe(recipe_name, split, options)
    _say_data(split)
    loaded = _load_base(base, split.task, recipe, Held(_device(device), quantize), config)
    _check_same_adapter(folder, loaded, split, may_replace=replace)
    choices = Choices(_names(targets), pooling, licence, baselines=not no_baselines)
    try:
        outcome = _train(loaded, split, recipe, choices, folder)
    except KeyboardInterrupt:
        raise terminal.Failure(_how_it_goes_on(folder), terminal.INTERRUPTED) from None
    _write(outcome, folder)
    _say_outcome(outcome, split, recipe, folder)


def _prepare_environment() -> None:
    """What torch reads when it is imported."""
    # Threads that wait sleep: spinning halves the speed of training on a machine that is busy.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # cuBLAS gives the same sums twice only with a workspace of its own per stream.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def _work_of(folder: Path) -> Path:
    """Where checkpoints are kept until the folder is written: beside it, hidden."""
    return folder.resolve().with_name(f".{folder.resolve().name}.training")


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _recipe(name: str | None, split: Split, options: dict[str, Any]) -> Recipe:
    from vera.nn.training import recipe as recipes
    from vera.nn.training.recipes import named

    method = options.pop("method")
    if name is None:
        return recipes.default_recipe(split.task, method or "vera").with_values(options)
    chosen = named(name)
    return (recipes.by_method(chosen, method) if method else chosen).with_values(options)


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        terminal.fail("This torch finds no GPU: leave --device out, or install a torch built for CUDA.")
    return name


@dataclass(frozen=True)
class Held:
    """Where the base is held, and how it is quantised there."""

    device: str
    quantization: str | None


def _load_base(base: str, task: str, recipe: Recipe, held: Held, config: Config) -> Base:
    from transformers.utils import logging

    from vera.nn.base import Base

    path = bases.locate(base, config=config)
    with terminal.bytes_progress("Fingerprinting the base") as progress:
        fingerprint = tensor_tables.fingerprint_of(path, config=config, progress=progress)
    name, revision = _name_of(base, fingerprint.value, path, config)
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers
    with terminal.spinner("Loading the base"):
        loaded = Base.open(
            path, task, recipe, name=name, revision=revision, fingerprint=fingerprint,
            device=held.device, quantization=held.quantization,
        )  # fmt: skip
    with terminal.spinner("Proving the base"), digest_books.digest_book(digest_books.digests_of(config)) as digests:
        loaded.prove(digests)
    return loaded


def _name_of(typed: str, fingerprint: str, path: Path, config: Config) -> tuple[str, str | None]:
    """The name and revision of the base: as it was typed when that is a known name, else a known one."""
    known = bases.known_as(fingerprint, typed, config=config)
    return (known.name, known.revision) if known else bases.name_of(path)


def _check_same_adapter(folder: Path, base: Base, split: Split, *, may_replace: bool) -> None:
    """Training again what stands in `folder` replaces it. Raises ArchiveError (FOLDER_TAKEN) where that is something else: of
    another base or task, or, unless it `may_replace` that, trained on other items, whatever their file is called."""
    from vera.errors import ArchiveError

    old = _origin_of(folder)
    if old is None:
        return
    new = _Origin(base.name, base.fingerprint.value, split.task, split.name, split.digest)
    answers_alike = (
        (old.fingerprint or new.fingerprint) == new.fingerprint
        and (old.fingerprint or old.base == new.base)
        and (old.task or new.task) == new.task
    )
    if answers_alike and (may_replace or (old.digest in _digests(split) if old.digest else old.data == new.data)):
        return
    advice = (
        "add --replace to train it on these items, which pushed is its next version, or choose another folder."
        if answers_alike
        else "choose another folder, or move that one away."
    )
    raise ArchiveError(
        f"{folder} holds another adapter, {old.beside(new)}, and this one would be {new.beside(old)}: {advice}",
        code="FOLDER_TAKEN",
        path=str(folder),
    )


@dataclass(frozen=True)
class _Origin:
    """What something was trained from. Of what only is compared with, nothing tells the fingerprint of its base and its task."""

    base: str
    fingerprint: str | None
    task: str | None
    data: object
    digest: object  # of the items as they were divided

    def beside(self, other: _Origin) -> str:
        """In words, with hashes where names alone would not tell it from `other`."""
        base = f"{self.base} ({self.fingerprint})" if self._is_namesake("base", "fingerprint", other) else self.base
        data = f"{self.data} ({self.digest})" if self._is_namesake("data", "digest", other) else self.data
        return f"of {base}, for {self.task or 'no task that is named'}, trained on {data or 'nothing that is named'}"

    def _is_namesake(self, name: str, digest: str, other: _Origin) -> bool:
        return bool(getattr(self, name) == getattr(other, name) and getattr(self, digest) != getattr(other, digest))


def _origin_of(folder: Path) -> _Origin | None:
    """Of what stands in `folder`: an adapter, or what was trained to compare one with. None of what could not be loaded."""
    from vera.archive import read_folder
    from vera.errors import VeraError
    from vera.nn.packaging import SUMMARY_FILE

    with contextlib.suppress(VeraError):
        old = read_folder(folder).manifest
        said, base = old.training, old.base
        return _Origin(
            base.name, base.fingerprint, old.task.kind if old.task else None, said.get("data"), said.get("data_digest")
        )
    with contextlib.suppress(OSError, ValueError):
        said = json.loads((folder / SUMMARY_FILE).read_bytes())
        return _Origin(str(said.get("base")), None, None, said.get("data"), said.get("data_digest"))
    return None


def _digests(split: Split) -> set[str]:
    """Of the split as a recipe may have it: whole, and with a tenth set aside."""
    from vera.errors import DataError

    with contextlib.suppress(DataError):  # too few items for that
        return {split.digest, split.with_validation().digest}
    return {split.digest}


def _train(base: Base, split: Split, recipe: Recipe, choices: Choices, folder: Path) -> Outcome:
    from vera.nn import experiment

    with terminal.steps_progress() as progress:

        def report(step: Step) -> None:
            progress.update(step.step, step.steps, f"epoch {step.epoch}/{recipe.epochs}  loss {step.loss:.3f}")

        return experiment.run(
            folder.resolve().name, base, split, recipe, choices,
            work=_work_of(folder), stage=progress.stage, report=report,
        )  # fmt: skip


def _how_it_goes_on(folder: Path) -> str:
    from vera.nn.training.checkpoints import EVERY_S, age_s

    age = age_s(_work_of(folder))
    if age is None:
        return f"Stopped before the first checkpoint, which is written after {EVERY_S:.0f} seconds: the same command begins anew."
    return f"Stopped. The same command goes on from the last checkpoint, of {terminal.duration(age)} ago."


def _write(outcome: Outcome, folder: Path) -> None:
    try:
        outcome.write(folder)
    except OSError as error:
        terminal.fail(
            f"{folder} could not be written ({error.strerror}). The training is kept in {_work_of(folder)}: make room, and "
            "the same command ends it."
        )
    shutil.rmtree(_work_of(folder), ignore_errors=True)


def _say_data(split: Split) -> None:
    labels = f", {len(split.labels)} labels" if split.labels else ""
    terminal.say(
        f"{split.name}: {len(split.train):,} {_items(split)} to train on, {len(split.heldout):,} held out{labels}"
    )
    for note in split.notes:
        terminal.say(f"  {note}")


def _items(split: Split) -> str:
    return "images" if split.train.images is not None else "texts"


def _say_outcome(outcome: Outcome, split: Split, recipe: Recipe, folder: Path) -> None:
    scores, size = outcome.scores, f"{outcome.parameters:,} parameters = {outcome.parameters * 4:,} bytes in float32"
    name = f"{_METHODS[recipe.method]}{' + head' if outcome.head_parameters and recipe.method != 'head' else ''}"
    terminal.say(f"\nHeld-out {scores.metric} ({scores.items} {_items(split)}):")
    terminal.say(f"  {name:<32} {_shown(scores.metric, scores.adapter)}{f'   {size}' if outcome.parameters else ''}")
    for baseline, values in scores.baselines.items():
        if scores.metric in values:
            terminal.say(f"  {_BASELINES[baseline]:<32} {_shown(scores.metric, values)}")
    _say_epochs(outcome)
    _say_if_nothing_was_learned(scores.adapter, recipe)
    terminal.say(
        f"{terminal.duration(outcome.cost.training_s)} of training, at most {terminal.size(outcome.cost.peak_bytes)} of memory"
    )
    following = (
        f"push it with: vera-hub push {folder}" if outcome.archive else "to compare with: the hub keeps VeRA adapters"
    )
    terminal.say(f"\n{folder}: {following}")


_BASELINES = {
    "head_only": "head alone, the same training",
    "probe": "head alone, until it converges",
    "base": "the base without it",
    "trivial": "always the commonest in training",
}


def _say_epochs(outcome: Outcome) -> None:
    """What the best and the last epoch score, where epochs were watched."""
    scores = outcome.scores
    if scores.best is None:
        return
    other = {
        "last": f"epoch {scores.last_epoch}, the last",
        "best": f"epoch {scores.best_epoch}, the best by validation",
    }
    for name, values in (("best", scores.best), ("last", scores.last)):
        kept = ", which is kept" if name == scores.kept else ""
        terminal.say(f"  {other[name] + kept:<50} {_shown(scores.metric, values)}")


def _say_if_nothing_was_learned(scores: Mapping[str, float], recipe: Recipe) -> None:
    """A training that falls to one answer for every item ends as any other: with a finite loss."""
    for correlation in _CORRELATIONS & scores.keys():
        if scores[correlation] <= 0:
            option, rate = (
                ("--head-lr", recipe.head_learning_rate) if recipe.method == "head" else ("--lr", recipe.learning_rate)
            )
            terminal.note(
                f"Warning: its answers have nothing to do with the truth ({correlation} {scores[correlation]:.2g}): it learned nothing, or "
                f"fell to one answer for all. Train again with a lower {option} (this was {rate:g}), with --clip 1, or with another --seed."
            )


_CORRELATIONS = {"matthews", "pearson"}  # 0 of answers that ignore the item


def _shown(metric: str, values: Mapping[str, float]) -> str:
    return f"{values[metric]:6.1%}" if metric.startswith(("accuracy", "f1")) else f"{values[metric]:6.4g}"
