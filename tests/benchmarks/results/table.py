"""The tables and the picture of docs/results.md, from docs/results/*.json: `python -m tests.benchmarks.results.table`.

The page is written by hand around marks; what stands between `<!-- table NAME -->` and `<!-- end -->` is replaced.
Scores are in percent: the mean and the standard deviation (n − 1) over the seeds.
"""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.results import picture
from tests.benchmarks.results.experiments import Experiment, all_experiments
from tests.benchmarks.results.publish import DOCS

PAGE = DOCS.parent / "results.md"
_MARKED = re.compile(r"(<!-- table (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
METRICS = {"matthews": "MCC", "accuracy": "accuracy"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Numbers:
    """The finished seeds of one method on one task of one base."""

    seeds: Sequence[Row]

    @property
    def metric(self) -> str:
        return str(self.seeds[0]["metric"])

    def last(self) -> list[float]:
        return [100 * row["scores"]["last"][self.metric] for row in self.seeds]

    def best(self) -> list[float]:
        """Of the epoch that was best on validation."""
        return [100 * row["scores"]["best"][self.metric] for row in self.seeds]

    def best_on_heldout(self) -> list[float]:
        """Of the epoch that was best on the held-out set itself: the paper's protocol, and too good by its nature."""
        return [100 * max(epoch["held-out"][self.metric] for epoch in row["epochs"]) for row in self.seeds]

    @property
    def parameters(self) -> int:
        return int(self.seeds[0]["parameters"])

    @property
    def head_parameters(self) -> int:
        return int(self.seeds[0]["head_parameters"])


class Measured:
    """The numbers of one experiment."""

    def __init__(self, experiment: Experiment, rows: Mapping[str, Row]) -> None:
        self.experiment, self.rows = experiment, rows

    @classmethod
    def read(cls, experiment: Experiment, folder: Path = DOCS) -> Measured:
        path = folder / f"{experiment.name}.json"
        return cls(experiment, json.loads(path.read_text()) if path.is_file() else {})

    def numbers(self, model: str, task: str, method: str) -> Numbers | None:
        start = f"{model}/{task}/{method}/seed"
        seeds = [row for path, row in self.rows.items() if path.startswith(start) and "scores" in row]
        return Numbers(seeds) if seeds else None

    def chosen(self, model: str, task: str, method: str) -> Row | None:
        """The recipe that the seeds were run with."""
        numbers = self.numbers(model, task, method)
        return numbers.seeds[0]["recipe"] if numbers else None


def scores(measured: Measured, model: str) -> Iterator[str]:
    """Methods down, tasks across: the last epoch."""
    tasks = measured.experiment.tasks
    heads = [f"{task.key.upper()} {METRICS.get(task.metric, task.metric)}" for task in tasks]
    yield from _header(["method", "parameters", "bytes", "with head", *heads])
    for method in measured.experiment.methods:
        found = [measured.numbers(model, task.key, method.key) for task in tasks]
        known = next((numbers for numbers in found if numbers), None)
        if known:
            cells = [_spread(numbers.last()) if numbers else "" for numbers in found]
            yield _line([method.key, *_sizes(known), *cells])


def epochs(measured: Measured, model: str) -> Iterator[str]:
    """The same by which epoch is scored: best by validation, and best on the held-out set as in the paper."""
    tasks = measured.experiment.tasks
    heads = [f"{task.key.upper()} {how}" for task in tasks for how in ("by validation", "on dev")]
    yield from _header(["method", *heads])
    for method in measured.experiment.methods:
        found = [measured.numbers(model, task.key, method.key) for task in tasks]
        if any(found):
            kinds: tuple[Callable[[Numbers], list[float]], ...] = (Numbers.best, Numbers.best_on_heldout)
            yield _line([method.key, *(_spread(kind(n)) if n else "" for n in found for kind in kinds)])


def costs(measured: Measured, model: str) -> Iterator[str]:
    """Seconds of training and the most memory, and the learning rate that was chosen."""
    tasks = measured.experiment.tasks
    heads = [f"{task.key.upper()} {what}" for task in tasks for what in ("rate", "s", "MiB")]
    yield from _header(["method", *heads])
    for method in measured.experiment.methods:
        cells: list[str] = []
        for task in tasks:
            numbers = measured.numbers(model, task.key, method.key)
            cells += _cost(numbers) if numbers else ["", "", ""]
        if any(cells):
            yield _line([method.key, *cells])


def _cost(numbers: Numbers) -> list[str]:
    recipe, spent = numbers.seeds[0]["recipe"], [row["cost"] for row in numbers.seeds]
    rate = recipe["head_learning_rate" if recipe["method"] == "head" else "learning_rate"]
    seconds = statistics.mean(cost["training_s"] for cost in spent)
    memory = statistics.mean(cost["peak_bytes"] for cost in spent) / 2**20
    return [f"{rate:g}", f"{seconds:.0f}", f"{memory:.0f}"]


def _sizes(numbers: Numbers) -> list[str]:
    """Parameters and bytes in float32, the head's left out, and bytes with the head."""
    without, head = 4 * numbers.parameters, 4 * numbers.head_parameters
    return [f"{numbers.parameters:,}", f"{without:,}", f"{without + head:,}"]


def _spread(values: Sequence[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{deviation}"


def _header(names: Sequence[str]) -> Iterator[str]:
    yield _line(names)
    yield _line(["---", *["---:"] * (len(names) - 1)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


KINDS: dict[str, Callable[[Measured, str], Iterator[str]]] = {"scores": scores, "epochs": epochs, "costs": costs}


def filled(page: str, measured: Mapping[str, Measured]) -> str:
    """`page` with every marked table (`experiment/model/kind`) as the numbers say."""

    def table(mark: re.Match[str]) -> str:
        experiment, model, kind = mark["name"].split("/")
        lines = KINDS[kind](measured[experiment], model)
        return "\n".join([mark[1].rstrip("\n"), *lines, mark[3]])

    return _MARKED.sub(table, page)


def main() -> int:
    measured = {experiment.name: Measured.read(experiment) for experiment in all_experiments()}
    PAGE.write_text(filled(PAGE.read_text(), measured))
    for name, svg in picture.all_of(measured).items():
        (DOCS / name).write_text(svg)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
