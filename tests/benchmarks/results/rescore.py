"""`make results`: the adapters in docs/results scored again on this machine, against the numbers that stand beside them.

Exit status 0 when every score is within the noise floor of its number, 1 when one is not, 3 when a base
or a set is not here. VERA_RESULTS_DATA and VERA_RESULTS_MODELS say where they lie: see `places`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.results import cells
from tests.benchmarks.results.experiments import Cell, all_experiments
from tests.benchmarks.results.kept import Result
from tests.benchmarks.results.places import NotHere
from tests.benchmarks.results.publish import DOCS

# Trained and scored on a GPU, scored here on a CPU: another order of additions turns the answer to an
# item that stands on the edge. So many of them are noise, and more are not.
NOISE_ITEMS = 3
LOSS_FLOOR = 0.005  # nats a token; trained and scored under bfloat16 autocast there
MISSING = 3


@dataclass(frozen=True)
class Committed:
    """An adapter in docs/results and the line of numbers about it."""

    cell: Cell
    folder: Path
    result: Result

    @property
    def published(self) -> float:
        scored = self.result.get("checked") or self.result["scores"]["last"]
        return float(scored[self.cell.task.metric])


def committed(only: str = "") -> Iterator[Committed]:
    """Every adapter whose path has `only` in it, those of one base together."""
    for experiment in all_experiments():
        numbers = DOCS / f"{experiment.name}.json"
        results = json.loads(numbers.read_text()) if numbers.is_file() else {}
        for group in experiment.groups():
            for cell in group.seeds({}):
                folder = DOCS / "adapters" / experiment.name / cell.path
                if folder.is_dir() and only in f"{experiment.name}/{cell.path}":
                    yield Committed(cell, folder, results[cell.path])


def noise_floor(metric: str, items: int) -> float:
    """How far two scores of the same adapter may be apart. A correlation moves up to about twice an accuracy's step,
    and up to four times where one label is rare. A mean loss moves in its fourth digit."""
    if metric == "loss":
        return LOSS_FLOOR
    return NOISE_ITEMS * (4 if metric == "matthews" else 1) / items


def check(adapter: Committed, bench: cells.Bench) -> bool:
    """Score `adapter` and print the line; whether it is within the noise floor."""
    split = bench.split(adapter.cell.task)
    items = adapter.result["scores"]["items"]
    if len(split.heldout) != items:
        raise NotHere(
            f"The set {adapter.cell.task.data} holds out {len(split.heldout)} items here, and the published scores are of "
            f"{items}: use the set that docs/results.md names."
        )
    is_same = split.heldout_digest == adapter.result["heldout_digest"]
    score = bench.score(adapter.cell, adapter.folder)
    floor = noise_floor(adapter.cell.task.metric, len(split.heldout))
    is_close = abs(score - adapter.published) <= floor
    words = "ok" if is_close else f"DIFFERS by more than {100 * floor:.2f}"
    words += "" if is_same else " (other bytes or names of labels than in the published set)"
    print(
        f"{adapter.cell.experiment}/{adapter.cell.path:<34} published {100 * adapter.published:6.2f}  here {100 * score:6.2f}  {words}",
        flush=True,
    )
    return is_close


def run(adapters: Sequence[Committed]) -> int:
    bench = cells.Bench("cpu")
    differ, missing = 0, dict[str, str]()
    for adapter in adapters:
        try:
            differ += not check(adapter, bench)
        except NotHere as reason:
            missing[str(reason)] = adapter.cell.path
    for reason in missing:
        print(reason, file=sys.stderr)
    print(f"{len(adapters)} adapters: {differ} differ, {len(missing)} bases or sets are missing")
    return 1 if differ else MISSING if missing else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of experiment/model/task/method/seed that must occur")
    cells.set_up(threads=2)
    return run(list(committed(parser.parse_args().only)))


if __name__ == "__main__":
    raise SystemExit(main())
