"""Finished cells on disk: `<folder>/<experiment>/<model>/<task>/<method>/<seed>/result.json`, the adapter beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.results.experiments import Cell, Group

RESULT, ADAPTER = "result.json", "adapter"
Result = dict[str, Any]


class Kept:
    """What is finished. A result is written last, so a cell that was killed counts as not begun; so does one of another
    recipe than its cell has by now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, cell: Cell) -> Path:
        return self.folder / cell.experiment / cell.path

    def result(self, cell: Cell) -> Result | None:
        path = self.of(cell) / RESULT
        found: Result | None = json.loads(path.read_text()) if path.is_file() else None
        return found if found and found["recipe"] == cell.recipe.to_dict() else None

    def keep(self, cell: Cell, result: Result, files: Mapping[str, bytes]) -> None:
        folder = self.of(cell)
        adapter = folder / ADAPTER
        adapter.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (adapter / name).write_bytes(data)
        fresh = folder / f"{RESULT}.new"
        fresh.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
        fresh.replace(folder / RESULT)

    def chosen(self, group: Group) -> dict[str, float] | None:
        """The try with the best last epoch on the validation tenth; None while one is missing.

        A try that diverged is worth nothing. Of equals, the first.
        """
        results = [self.result(cell) for cell in group.tries]
        scores = [score_of(result) for result in results if result is not None]
        if len(scores) < len(results):
            return None
        return dict(group.method.tries[scores.index(max(scores))])


def score_of(result: Result) -> float:
    """The last epoch on validation, by the task's metric; the more the better."""
    if "failed" in result:
        return float("-inf")
    score: float = result["epochs"][-1]["validation"][result["metric"]]
    return -score if result["metric"] == "loss" else score
