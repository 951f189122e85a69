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
from tests.benchmarks.results.kept import score_of
from tests.benchmarks.results.publish import DOCS

PAGE = DOCS.parent / "results.md"
_MARKED = re.compile(r"(<!-- table (?P<name>\S+) -->\n).*?(<!-- end -->)", re.DOTALL)
METRICS = {"matthews": "MCC"}
_TEXT_METRICS = {
    "bleu": "BLEU", "nist": "NIST", "meteor": "METEOR", "rouge_l": "ROUGE-L", "cider": "CIDEr",
    "ifeval": "prompts", "ifeval_loose": "prompts, loose",
    "ifeval_instructions": "instructions", "ifeval_instructions_loose": "instructions, loose",
}  # fmt: skip
_DECIMALS = {"bleu": 1, "nist": 2, "meteor": 1, "rouge_l": 1, "cider": 2}

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

    def best_try(self, model: str, task: str) -> dict[str, Row]:
        """Of each method that was tried on `task`, the best by validation."""
        found: dict[str, Row] = {}
        for method in self.experiment.methods:
            start = f"{model}/{task}/{method.key}/try"
            rows = [row for path, row in self.rows.items() if path.startswith(start)]
            if rows:
                found[method.key] = max(rows, key=score_of)
        return found

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


def tries(measured: Measured, model: str) -> Iterator[str]:
    """The best try of each method on the validation tenth: what the seeds are run with, and all there is of some."""
    tasks = [t for t in measured.experiment.tasks if measured.best_try(model, t.key)]
    yield from _header(["method", "parameters", *(cell for task in tasks for cell in (task.title, "rate"))])
    for method in measured.experiment.methods:
        found = [measured.best_try(model, task.key).get(method.key) for task in tasks]
        known = next((row for row in found if row), None)
        if known:
            cells = [cell for row in found for cell in (_tried(row) if row else ["", ""])]
            yield _line([method.key, f"{known['parameters']:,}", *cells])


def texts(measured: Measured, model: str) -> Iterator[str]:
    """What texts that were written are worth, and the loss of the references, per token."""
    for task in measured.tasks(model):
        names = [name for name in _TEXT_METRICS if _written(measured.numbers(model, task.key, _first(measured)), name)]
        yield from _header(["method", "parameters", "bytes", *(_TEXT_METRICS[name] for name in names), "loss"])
        for method in measured.experiment.methods:
            if numbers := measured.numbers(model, task.key, method.key):
                found = [_spread(_written(numbers, name), _DECIMALS.get(name, 1)) for name in names]
                losses = [row["scores"]["last"]["loss"] for row in numbers.seeds]
                yield _line([method.key, *_sizes(numbers)[:2], *found, _spread(losses, 3)])


def _written(numbers: Numbers | None, name: str) -> list[float]:
    """In percent, but for the two whose best is no 1."""
    scale = 1 if name in ("nist", "cider") else 100
    return [scale * row["written"][name] for row in numbers.seeds if name in row.get("written", {})] if numbers else []


def _first(measured: Measured) -> str:
    return measured.experiment.methods[0].key


def _tried(row: Row) -> list[str]:
    metric, recipe = row["metric"], row["recipe"]
    value = row["epochs"][-1]["validation"][metric]
    if recipe["method"] == "prompt":
        return [f"{value:.3f}", f"{recipe['shots']} examples"]
    rate = recipe["head_learning_rate" if recipe["method"] == "head" else "learning_rate"]
    return [f"{value:.3f}" if metric == "loss" else f"{100 * value:.1f}", f"{rate:g}"]


def _cost(numbers: Numbers) -> list[str]:
    recipe = numbers.seeds[0]["recipe"]
    rate = recipe["head_learning_rate" if recipe["method"] == "head" else "learning_rate"]
    memory = statistics.mean(row["cost"]["peak_bytes"] for row in numbers.seeds) / 2**20
    return [f"{rate:g}", f"{memory:.0f}"]


def _sizes(numbers: Numbers) -> list[str]:
    """Parameters and bytes in float32, the head's left out, and bytes with the head."""
    without, head = 4 * numbers.parameters, 4 * numbers.head_parameters
    return [f"{numbers.parameters:,}", f"{without:,}", f"{without + head:,}"]


def _spread(values: Sequence[float], decimals: int = 1) -> str:
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.{decimals}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{decimals}f}{deviation}"


def _header(names: Sequence[str]) -> Iterator[str]:
    yield _line(names)
    yield _line(["---", *["---:"] * (len(names) - 1)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


KINDS: dict[str, Callable[[Measured, str], Iterator[str]]] = {
    "scores": scores, "epochs": epochs, "costs": costs, "tries": tries, "texts": texts,
}  # fmt: skip


def filled(page: str, measured: Mapping[str, Measured]) -> str:
    """`page` with every marked table (`experiment/model/kind`) as the numbers say."""

    def table(mark: re.Match[str]) -> str:
        experiment, model, kind = mark["name"].split("/")
        lines = KINDS[kind](measured[experiment], model)
        return "\n".join([mark[1].rstrip("\n"), *lines, mark[3]])

    return _MARKED.sub(table, page)


def main() -> int:
    measured = {experiment.name: Measured.read(experiment) for experiment in all_experiments()}
    page = filled(PAGE.read_text(), measured)
    PAGE.write_text(page)
    for name, svg in picture.all_of(measured).items():
        if f"results/{name})" in page:
            (DOCS / name).write_text(svg)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
