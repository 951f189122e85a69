"""Finished cells on disk: `<folder>/<experiment>/<model>/<task>/<method>/<seed>/result.json`, the adapter beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.benchmarks.results.experiments import Cell, Group

RESULT, ADAPTER = "result.json", "adapter"
Result = dict[str, Any]


class NotComparable(Exception):
    """Results that are to be compared, and were measured on other bases or through other tokenizers."""


class Kept:
    """What is finished. A result is written last, so a cell that was killed counts as not begun; so does one whose cell is
    another by now: its recipe, its targets or anything of its base and its task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, cell: Cell) -> Path:
        return self.folder / cell.experiment / cell.path

    def result(self, cell: Cell) -> Result | None:
        path = self.of(cell) / RESULT
        found: Result | None = json.loads(path.read_text()) if path.is_file() else None
        return found if found and all(found.get(key, value) == value for key, value in facts_of(cell).items()) else None

    def keep(self, cell: Cell, result: Result, files: Mapping[str, bytes]) -> None:
        folder = self.of(cell)
        adapter = folder / ADAPTER
        adapter.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (adapter / name).write_bytes(data)
        self.write(cell, result)

    def write(self, cell: Cell, result: Result) -> None:
        """Whole or not at all."""
        fresh = self.of(cell) / f"{RESULT}.new"
        fresh.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        fresh.replace(self.of(cell) / RESULT)

    def chosen(self, group: Group) -> dict[str, float] | None:
        """The try with the best last epoch on the validation tenth; None while one is missing.

        A try that diverged is worth nothing. Of equals, the first. Raises NotComparable.
        """
        results = [self.result(cell) for cell in group.tries]
        _check_alike([result for result in results if result is not None])
        scores = [score_of(result) for result in results if result is not None]
        if len(scores) < len(results):
            return None
        return dict(group.method.tries[scores.index(max(scores))])


def _check_alike(results: Sequence[Result]) -> None:
    measured = [result for result in results if "failed" not in result]
    for one, other in itertools.pairwise(measured):
        for fact in ("base", "tokenizer"):
            if one.get(fact) != other.get(fact):
                raise NotComparable(
                    f"{one['cell']} was measured with the {fact} {one.get(fact)}, and {other['cell']} with {other.get(fact)}: "
                    "run one of them again, with the files of the other."
                )


def facts_of(cell: Cell) -> Result:
    """What a result hangs on, as it is kept. Results from before this was kept say less of it."""
    task = asdict(cell.task)
    model = {key: getattr(cell.model, key) for key in ("id", "checkpoint", "quantization")}
    facts = {
        "recipe": cell.recipe.to_dict(),
        "targets": list(cell.targets),
        "model": model,
        "task": {key: task[key] for key in ("data", "dataset", "train_items", "writes")},
    }
    kept: Result = json.loads(json.dumps(facts))
    return kept


def score_of(result: Result) -> float:
    """The last epoch on validation, by the task's metric; the more the better."""
    if "failed" in result:
        return float("-inf")
    score: float = result["epochs"][-1]["validation"][result["metric"]]
    return -score if result["metric"] == "loss" else score
