"""Run experiments: `python -m tests.benchmarks.results.run glue --out FOLDER --processes 12 --device cuda`.

Every method gets its tries first, on a tenth of the training set, then its seeds with the best of them.
A finished cell is never run again, so the same command goes on where it was stopped; with --published, what
docs/results has counts as finished too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.results import cells
from tests.benchmarks.results.experiments import HERE, Cell, Group, read
from tests.benchmarks.results.kept import Kept, Result
from tests.benchmarks.results.publish import DOCS, restore


@dataclass(frozen=True)
class Options:
    out: Path
    processes: int
    device: str
    deadline_s: float
    threads: int


class Runner:
    """Cells of `groups` in the order they can be run, `processes` at once."""

    def __init__(self, groups: Sequence[Group], options: Options) -> None:
        self.groups, self.options, self.kept = groups, options, Kept(options.out)
        self.started = time.monotonic()
        self.running: dict[Future[Result], Cell] = {}
        self.failed: set[str] = set()

    def run(self) -> int:
        """0 when everything is finished, 1 when something is missing or failed."""
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.options.processes, context, cells.set_up, (self.options.threads,))
        try:
            while self._fill(pool) and not self._is_late():
                done, _ = wait(self.running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in done:
                    self._finish(future)
        finally:
            for child in multiprocessing.active_children():
                child.kill()
            pool.shutdown(wait=False, cancel_futures=True)
        missing = len(self._ready()) + len(self.running)
        print(f"{missing} left, {len(self.failed)} failed, {self._seconds():.0f} s", flush=True)
        return int(bool(missing or self.failed))

    def _fill(self, pool: ProcessPoolExecutor) -> bool:
        """Give every free process a cell; whether anything runs."""
        for cell in self._ready()[: self.options.processes - len(self.running)]:
            options = self.options
            future = pool.submit(cells.train, cell, options.out, options.device, options.processes)
            self.running[future] = cell
        return bool(self.running)

    def _ready(self) -> list[Cell]:
        """The unfinished cells whose learning rate is known, none of them running."""
        taken = {_id(cell) for cell in self.running.values()} | self.failed
        found: list[Cell] = []
        for group in self.groups:
            chosen = self.kept.chosen(group)
            candidates = group.tries if chosen is None else group.seeds(chosen)
            found += [c for c in candidates if _id(c) not in taken and self.kept.result(c) is None]
        return found

    def _finish(self, future: Future[Result]) -> None:
        cell = self.running.pop(future)
        try:
            print(f"{self._seconds():6.0f} s  {_id(cell)}  {_shown(future.result())}", flush=True)
        except Exception:
            self.failed.add(_id(cell))
            print(f"{self._seconds():6.0f} s  {_id(cell)} FAILED\n{traceback.format_exc()[-1500:]}", flush=True)

    def _seconds(self) -> float:
        return time.monotonic() - self.started

    def _is_late(self) -> bool:
        return self._seconds() > self.options.deadline_s


def _id(cell: Cell) -> str:
    return f"{cell.experiment}/{cell.path}"


def _shown(result: Result) -> str:
    if "failed" in result:
        return f"diverged ({result['recipe']['learning_rate']:g})"
    metric, last = result["metric"], result["epochs"][-1]
    heldout = f"  held-out {100 * result['scores']['last'][metric]:.2f}" if "scores" in result else ""
    scored = f"validation {100 * last['validation'][metric]:.2f}{heldout}"
    if result["recipe"]["method"] == "prompt":
        return f"{scored}  {result['recipe']['shots']} examples"
    rates = f"lr {result['recipe']['learning_rate']:g} head {result['recipe']['head_learning_rate']:g}"
    return f"{scored}  {rates}  {result['cost']['training_s']:.1f} s"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiments", nargs="+", help="names of the files beside this one, without .yaml")
    parser.add_argument("--out", type=Path, required=True, help="the folder of finished cells")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--processes", type=int, default=1, help="cells at once")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each")
    parser.add_argument("--deadline", type=float, default=float("inf"), help="stop after so many seconds")
    parser.add_argument("--only", default="", help="a part of model/task/method that must occur")
    parser.add_argument("--published", action="store_true", help="go on from docs/results")
    given = parser.parse_args()
    experiments = [read(HERE / f"{name}.yaml") for name in given.experiments]
    for experiment in experiments if given.published else ():
        restore(Kept(given.out), experiment, DOCS)
    groups = [group for experiment in experiments for group in experiment.groups()]
    groups = [g for g in groups if given.only in f"{g.model.key}/{g.task.key}/{g.method.key}"]
    return Runner(groups, Options(given.out, given.processes, given.device, given.deadline, given.threads)).run()


if __name__ == "__main__":
    raise SystemExit(main())
