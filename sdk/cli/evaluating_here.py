"""`eval --local`: a folder is evaluated on this machine by the worker's own code, and no hub is asked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sdk.cli.terminal import Failure
from sdk.models.evaluations import Comparison, Evaluation, TaskScore


def evaluate_here(
    context: click.Context, folders: Sequence[Path], *, suite: str, base: str | None, datasets: Path | None
) -> tuple[list[Evaluation], Comparison | None, tuple[TaskScore, ...]]:
    """The evaluation of each folder, of two how the first compares with the second, and of a group the tasks of the first."""
    root = context.find_root()
    assert isinstance(root.command, click.Group)
    worker = root.command.get_command(root, "suite")
    if not isinstance(worker, click.Group):
        raise Failure("--local needs the evaluation worker on this machine: pip install 'vera-hub[server,torch]'.")
    run = worker.commands["run"]
    found = context.invoke(run, folders=tuple(folders), name=suite, base=base, datasets=datasets)
    compared = found["comparison"]
    evaluations = [Evaluation.from_json(each) for each in found["evaluations"]]
    tasks = tuple(TaskScore.from_json(each) for each in found["tasks"])
    return evaluations, Comparison.from_json(compared) if compared else None, tasks
