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
from tests.benchmarks.results.experiments import Experiment, Task, all_experiments
from tests.benchmarks.results.publish import DOCS

PAGE = DOCS.parent / "results.md"
_MARKED = re.compile(r"(<!-- table (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
METRICS = {"matthews": "MCC"}

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
        watched = [[epoch["held-out"] for epoch in row["epochs"]] for row in self.seeds]
        return [100 * max(scored[self.metric] for scored in epochs) for epochs in watched]

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

    def tasks(self, model: str) -> list[Task]:
        """Those with any number for `model`."""
        methods = [method.key for method in self.experiment.methods]
        return [t for t in self.experiment.tasks if any(self.numbers(model, t.key, method) for method in methods)]


def scores(measured: Measured, model: str) -> Iterator[str]:
    """Methods down, tasks across: the last epoch."""
    tasks = measured.tasks(model)
    heads = [f"{task.title} {METRICS.get(task.metric, task.metric)}" for task in tasks]
    yield from _header(["method", "parameters", "bytes", "with head", *heads])
    for method in measured.experiment.methods:
        found = [measured.numbers(model, task.key, method.key) for task in tasks]
        known = next((numbers for numbers in found if numbers), None)
        if known:
            cells = [_spread(numbers.last()) if numbers else "" for numbers in found]
            yield _line([method.key, *_sizes(known), *cells])


def epochs(measured: Measured, model: str) -> Iterator[str]:
    """The same by which epoch is scored: best by validation, and best on the held-out set as in the paper."""
    tasks = measured.tasks(model)
    heads = [f"{task.title} {how}" for task in tasks for how in ("by validation", "on dev")]
    yield from _header(["method", *heads])
    for method in measured.experiment.methods:
        found = [measured.numbers(model, task.key, method.key) for task in tasks]
        if any(found):
            kinds: tuple[Callable[[Numbers], list[float]], ...] = (Numbers.best, Numbers.best_on_heldout)
            yield _line([method.key, *(_spread(kind(n)) if n else "" for n in found for kind in kinds)])


def costs(measured: Measured, model: str) -> Iterator[str]:
    """The learning rate that was chosen, and the most memory of the training process.

    No seconds: trainings share the card, and how many others ran beside one changed as they ended.
    """
    tasks = measured.tasks(model)
    yield from _header(["method", *(f"{task.title} {what}" for task in tasks for what in ("rate", "MiB"))])
    for method in measured.experiment.methods:
        found = [measured.numbers(model, task.key, method.key) for task in tasks]
        if any(found):
            yield _line(
                [method.key, *(cell for numbers in found for cell in (_cost(numbers) if numbers else ["", ""]))]
            )


def _cost(numbers: Numbers) -> list[str]:
    recipe = numbers.seeds[0]["recipe"]
    rate = recipe["head_learning_rate" if recipe["method"] == "head" else "learning_rate"]
    memory = statistics.mean(row["cost"]["peak_bytes"] for row in numbers.seeds) / 2**20
    return [f"{rate:g}", f"{memory:.0f}"]


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
