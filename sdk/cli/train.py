"""`vera-hub train`: from labelled texts to a folder that `vera-hub push` takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sdk import bases
from sdk.cli import terminal
from vera.projection import STREAMS

if TYPE_CHECKING:
    from sdk.config import Config
    from vera.data import Split
    from vera.nn.experiment import Base, Outcome
    from vera.nn.training import Recipe, Step

METHODS = {"vera": "VeRA", "dvora": "DVoRA", "lora": "LoRA"}  # as they are written
LORA_DEFAULTS = {"rank": 8, "learning_rate": 1e-3}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--base", required=True, help="A base this machine knows (`vera-hub base add`), or a folder.")
@click.option("--data", "source", required=True, help="demo/topics, or a .csv or .jsonl file of texts and labels.")
@click.option("--text", "text_column", default="text", show_default=True, help="The column of texts.")
@click.option("--label", "label_column", default="label", show_default=True, help="The column of labels.")
@click.option(
    "--method", type=click.Choice(list(METHODS)), default="vera", show_default=True, help="LoRA is to compare with."
)
@click.option(
    "--stream",
    type=click.Choice(STREAMS),
    default=STREAMS[0],
    show_default=True,
    help="Generator of the frozen matrices; PEFT can load the first.",
)
@click.option("--rank", type=click.IntRange(1, 4096), help="Default: 256 for VeRA, 8 for LoRA.")
@click.option("--epochs", type=click.IntRange(1, 10_000), help="Passes over the training texts.")
@click.option("--batch-size", type=click.IntRange(1, 4096), help="Texts per step.")
@click.option(
    "--lr", "learning_rate", type=click.FloatRange(min=0, min_open=True), help="Learning rate of the adapter."
)
@click.option("--head-lr", "head_learning_rate", type=click.FloatRange(min=0, min_open=True), help="And of the head.")
@click.option(
    "--targets", default="query,value", show_default=True, help="Modules to adapt, by the end of their names."
)
@click.option("--pooling", type=click.Choice(["mean", "cls"]), default="mean", show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--license", "licence", help="For the manifest, such as apache-2.0.")
@click.pass_context
def train(
    context: click.Context,
    /,
    *,
    folder: Path,
    base: str,
    source: str,
    text_column: str,
    label_column: str,
    targets: str,
    pooling: str,
    licence: str | None,
    **recipe: Any,
) -> None:
    """Train an adapter of a base on labelled texts, and write it to FOLDER.

    A fifth of the texts is held out, by their hash, and never trained on. The head alone on the
    frozen base, and the most common label, are scored beside the adapter.
    """
    # Threads that wait sleep: spinning halves the speed of training on a machine that is busy. Before torch.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from vera import data
    from vera.archive import check_replaceable
    from vera.nn.packaging import FOLDER_FILES

    check_replaceable(folder, FOLDER_FILES)  # before minutes of work, not after
    split = data.load(source, text_column=text_column, label_column=label_column)
    _say_data(split)
    loaded = _load_base(base, terminal.config_of(context))
    outcome = _train(
        folder.resolve().name, loaded, split, _recipe(recipe),
        targets=_names(targets), pooling=pooling, licence=licence,
    )  # fmt: skip
    _write(outcome, folder)
    _say_outcome(outcome, folder, recipe["method"])


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _recipe(chosen: dict[str, Any]) -> Recipe:
    from vera.nn.training import Recipe

    defaults = LORA_DEFAULTS if chosen["method"] == "lora" else {}
    return Recipe(**{**defaults, **{key: value for key, value in chosen.items() if value is not None}})


def _load_base(base: str, config: Config) -> Base:
    from vera.nn.experiment import Base

    path = bases.locate(base, config=config)
    with terminal.bytes_progress("Fingerprinting the base") as progress:
        fingerprint = bases.fingerprint_of(path, config=config, progress=progress)
    with terminal.spinner("Loading the base"):
        from transformers import AutoModel
        from transformers.utils import logging

        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers
        model = AutoModel.from_pretrained(path, local_files_only=True)
    name, revision = _name_of(base, fingerprint.value, path, config)
    return Base(model, fingerprint, name, revision)


def _name_of(typed: str, fingerprint: str, path: Path, config: Config) -> tuple[str, str | None]:
    """The name and revision of the base: as it was typed when that is a known name, else a known one."""
    known = [base for base in bases.list_known(config) if base.fingerprint == fingerprint]
    for base in sorted(known, key=lambda base: base.name != typed):
        return base.name, base.revision
    return bases.name_of(path)


def _train(
    name: str, base: Base, split: Split, recipe: Recipe, *, targets: list[str], pooling: str, licence: str | None
) -> Outcome:
    from vera.nn import experiment

    with terminal.steps_progress() as progress:

        def report(step: Step) -> None:
            progress.update(step.step, step.steps, f"epoch {step.epoch}/{recipe.epochs}  loss {step.loss:.3f}")

        return experiment.run(
            name, base, split, recipe,
            targets=targets, pooling=pooling, license=licence, stage=progress.stage, report=report,
        )  # fmt: skip


def _write(outcome: Outcome, folder: Path) -> None:
    from vera import archive

    archived = outcome.archive.files if outcome.archive else {}
    archive.write_files({**archived, **outcome.files}, folder)


def _say_data(split: Split) -> None:
    terminal.say(
        f"{split.name}: {len(split.train):,} texts to train on, {len(split.heldout):,} held out, {len(split.labels)} labels"
    )
    for note in split.notes:
        terminal.say(f"  {note}")


def _say_outcome(outcome: Outcome, folder: Path, method: str) -> None:
    scores = outcome.scores
    rows = [
        (f"{METHODS[method]} + head", scores.adapter, outcome.parameters),
        ("head alone, the same training", scores.head_only, 0),
        ("head alone, until it converges", scores.probe, 0),
        ("always the commonest in training", scores.majority, 0),
    ]
    terminal.say(f"\nHeld-out accuracy ({scores.items} texts):")
    for what, score, parameters in rows:
        size = f"   {parameters:,} parameters = {parameters * 4:,} bytes in float32" if parameters else ""
        terminal.say(f"  {what:<32} {score:6.1%}{size}")
    following = (
        f"push it with: vera-hub push {folder}"
        if outcome.archive
        else "a LoRA, to compare with: the hub keeps VeRA adapters"
    )
    terminal.say(f"\n{folder}: {following}")
