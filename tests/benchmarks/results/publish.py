"""Finished cells into docs/results: `python -m tests.benchmarks.results.publish FOLDER`.

docs/results/<experiment>.json            every cell: recipe, scores by epoch, sizes, cost
docs/results/adapters/<experiment>/…      the adapters of the seeds, where their weights are under 170 KB

An adapter comes without the log and the curve of its training and the texts it wrote, which are several times its size.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks.results.cells import TEXTS
from tests.benchmarks.results.experiments import Cell, Experiment, all_experiments
from tests.benchmarks.results.kept import ADAPTER, RESULT, Kept, Result
from vera.folders import LOSS_CURVE, TRAINING_LOG, is_adapter_folder
from vera.manifest import MANIFEST_FILE, WEIGHTS_FILE

DOCS = Path(__file__).parents[3] / "docs" / "results"
MAX_WEIGHTS_BYTES = 170_000  # rank 256 on the query and value maps of SmolLM2-135M is 168,672


def publish(kept: Kept, experiment: Experiment, docs: Path) -> int:
    """How many cells are published now: those of `kept`, and those that were before."""
    restore(kept, experiment, docs)
    rows: dict[str, Result] = {}
    for group in experiment.groups():
        chosen = kept.chosen(group)
        for cell in [*group.tries, *(group.seeds(chosen) if chosen else [])]:
            if cell.experiment == experiment.name and (result := kept.result(cell)) is not None:
                rows[cell.path] = _rounded(_short(result))
                _copy_adapter(kept, cell, docs)
    if rows:
        docs.mkdir(parents=True, exist_ok=True)
        (docs / f"{experiment.name}.json").write_text(_one_line_each(rows))
    return len(rows)


def restore(kept: Kept, experiment: Experiment, docs: Path) -> None:
    """Make the cells that were published finished in `kept` too, where they are not: their adapters stay in `docs`."""
    numbers = docs / f"{experiment.name}.json"
    for path, row in json.loads(numbers.read_text()).items() if numbers.is_file() else ():
        result = kept.folder / experiment.name / path / RESULT
        if not result.is_file():
            result.parent.mkdir(parents=True, exist_ok=True)
            result.write_text(json.dumps(row))


def _copy_adapter(kept: Kept, cell: Cell, docs: Path) -> None:
    source = kept.of(cell) / ADAPTER
    if cell.is_try or not is_adapter_folder(source) or not (source / MANIFEST_FILE).is_file():
        return
    if (source / WEIGHTS_FILE).stat().st_size > MAX_WEIGHTS_BYTES:
        return
    target = docs / "adapters" / cell.experiment / cell.path
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(TRAINING_LOG, LOSS_CURVE, TEXTS), dirs_exist_ok=True)


def _short(result: Result) -> Result:
    """Of every epoch, the one metric that counts."""
    if "failed" in result:
        return result
    metric = result["metric"]
    parts = ("validation", "held-out")
    epochs = [{k: {metric: v[metric]} if k in parts else v for k, v in epoch.items()} for epoch in result["epochs"]]
    return {**result, "epochs": epochs}


def _rounded(value: Any) -> Any:
    """Six decimals are more than any of these numbers has."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _one_line_each(rows: dict[str, Result]) -> str:
    lines = [f"{json.dumps(path)}: {json.dumps(row, sort_keys=True)}" for path, row in sorted(rows.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    kept, experiments = Kept(Path(sys.argv[1])), all_experiments()
    for experiment in experiments:  # of all, before one is published that goes by the tries of another
        restore(kept, experiment, DOCS)
    for experiment in experiments:
        print(f"{experiment.name}: {publish(kept, experiment, DOCS)} cells")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
