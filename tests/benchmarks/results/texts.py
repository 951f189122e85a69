"""Texts that finished cells wrote, measured: `python -m tests.benchmarks.results.texts FOLDER`.

Beside the GPU is seldom what measures them (Java, for METEOR and the tokens of ROUGE-L and CIDEr), so a cell keeps its
texts and this puts their metrics into its result. Needs the `nlg` extra and VERA_RESULTS_DATA.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from hub.scoring.metrics import score
from hub.worker import instructions
from hub.worker.texts import METRICS, Texts
from tests.benchmarks.results.cells import TEXTS
from tests.benchmarks.results.experiments import Cell, Writes, all_experiments
from tests.benchmarks.results.kept import ADAPTER, Kept

Scores = Mapping[str, float]


def measure(kept: Kept, cell: Cell) -> Scores | None:
    """The metrics of the texts of `cell`, put into its result; None when it has no texts, or is measured."""
    path, result = kept.of(cell) / ADAPTER / TEXTS, kept.result(cell)
    if cell.task.writes is None or result is None or "written" in result or not path.is_file():
        return None
    scores = SCORERS[cell.task.writes.scorer](cell.task.writes, json.loads(path.read_text()))
    kept.write(cell, {**result, "written": dict(scores)})
    return scores


def of_e2e(writes: Writes, texts: Sequence[str]) -> Scores:
    """The five metrics of the E2E challenge, over all references of each meaning representation."""
    references: dict[str, list[str]] = {}
    for row in _rows(writes):
        references.setdefault(str(row["mr"]), []).append(str(row["ref"]))
    measured = Texts(texts, list(references.values()))
    return {metric: score(metric, measured.outcomes(metric)) for metric in METRICS}


def of_ifeval(writes: Writes, texts: Sequence[str]) -> Scores:
    """IFEval's four: of all prompts, and of all instructions, as the texts stand and leniently."""
    rows = {str(row["prompt"]): row for row in _rows(writes)}.values()
    asked = [instructions.instructions_of(row["instruction_id_list"], row["kwargs_json"]) for row in rows]
    return {metric: score(metric, instructions.outcomes(metric, asked, texts)) for metric in instructions.METRICS}


def _rows(writes: Writes) -> list[dict[str, object]]:
    import pyarrow.parquet

    found: list[dict[str, object]] = pyarrow.parquet.read_table(
        Path(os.environ["VERA_RESULTS_DATA"]) / writes.data
    ).to_pylist()
    return found


SCORERS: Mapping[str, Callable[[Writes, Sequence[str]], Scores]] = {"e2e": of_e2e, "ifeval": of_ifeval}


def main() -> int:
    kept, measured = Kept(Path(sys.argv[1])), 0
    for experiment in all_experiments():
        for group in experiment.groups():
            for cell in group.seeds(kept.chosen(group) or {}):
                if scores := measure(kept, cell):
                    measured += 1
                    shown = "  ".join(f"{name} {value:.4f}" for name, value in scores.items())
                    print(f"{experiment.name}/{cell.path}  {shown}", flush=True)
    if not measured:
        print(
            f"{kept.folder}: no text to measure. A group whose tries are not all there has no seeds: run it with --published."
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
