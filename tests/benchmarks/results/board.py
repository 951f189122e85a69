"""The adapters of docs/results on a hub of their own: pushed, scored by its worker, signed, and ranked on its boards.

`python -m tests.benchmarks.results.board --only minilm/mrpc` needs VERA_RESULTS_DATA and the base. Everything is what a user
has: `vera-hub serve`, `worker`, `push`, `eval`, `eval verify` and `leaderboard`, in processes of their own.
Exit status 1 where a score is further from the published one than the noise floor.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from tests.benchmarks.results import places
from tests.benchmarks.results.rescore import Committed, committed, noise_floor
from tests.functional.machines import Done, Machine, RunningHub, make_machine, running_hub
from vera.archive import read_folder
from vera.data import IMAGE_CLASSIFICATION

EXPERIMENTS = (
    "glue",
    "glue-closing",
    "images",
    "images-closing",
    "e2e",
)  # whose held-out sets are files, as suites are
LIMIT_S = "3600"


def suite_of(adapter: Committed) -> str:
    return f"results/{adapter.cell.task.key}"


def suite_file(adapter: Committed, folder: Path) -> Path:
    """A suite over the held-out file of what `adapter` was trained on, with the columns and labels that it was trained with."""
    task, manifest = adapter.cell.task, read_folder(adapter.folder).manifest
    assert manifest.task is not None
    options, kind = manifest.training["source"]["options"], manifest.task.kind
    data = Path(os.environ["VERA_RESULTS_DATA"]) / task.data / f"{options['heldout']}.parquet"
    said = {
        "name": suite_of(adapter), "title": f"{task.title}, what is held out", "task": kind,
        "data": str(data), "sha256": f"sha256:{hashlib.sha256(data.read_bytes()).hexdigest()}",
        "image" if kind == IMAGE_CLASSIFICATION else "text": options["text"], "label": options["label"],
        "metric": "perplexity" if task.metric == "loss" else task.metric,
    }  # fmt: skip
    if manifest.task.labels:
        said["labels"] = list(manifest.task.labels)
    path = folder / f"{task.key}.yaml"
    path.write_text(yaml.safe_dump(said))
    return path


def name_of(adapter: Committed) -> str:
    return f"demo/{adapter.cell.path.replace('/', '-')}"


def run(adapters: list[Committed]) -> int:
    with tempfile.TemporaryDirectory(prefix="vera-board-") as folder, running_hub(Path(folder)) as hub:
        machine = make_machine(Path(folder))
        for model in {adapter.cell.model.key: adapter.cell.model for adapter in adapters}.values():
            _done(machine.run("base", "add", places.folder_of(model), "--name", model.id))
        of_tasks = {adapter.cell.task.key: adapter for adapter in adapters}
        with _worker(machine, hub, [suite_file(adapter, Path(folder)) for adapter in of_tasks.values()]):
            for adapter in adapters:
                _done(machine.run("push", adapter.folder, "--name", name_of(adapter)))
                _done(machine.run("eval", f"{name_of(adapter)}@v1", "--suite", suite_of(adapter)))
            differ = sum(not _compare(machine, adapter) for adapter in adapters)
        for suite in sorted({suite_of(adapter) for adapter in adapters}):
            print(f"\n{suite}\n{_done(machine.run('leaderboard', suite)).out}")
    print(f"{len(adapters)} adapters: {differ} differ")
    return int(differ > 0)


@contextmanager
def _worker(machine: Machine, hub: RunningHub, suites: list[Path]) -> Iterator[None]:
    named = [option for suite in suites for option in ("--suite", str(suite))]
    options = ("worker", "--name", "results", *named)
    with machine.running(*options, VERA_HUB_TOKEN=hub.worker_token, VERA_HUB_URL=hub.url) as process:
        assert process.stderr is not None
        print(process.stderr.readline().strip(), flush=True)
        yield


def _compare(machine: Machine, adapter: Committed) -> bool:
    """Wait for the score of `adapter`, check who signed it, and print both; whether they are one within the noise floor."""
    metric, items = adapter.cell.task.metric, adapter.result["scores"]["items"]
    asked = ("eval", f"{name_of(adapter)}@v1", "--suite", suite_of(adapter), "--wait", "--timeout", LIMIT_S, "--json")
    with machine.running(*asked) as process:
        out, err = process.communicate()
    _done(Done(process.returncode, out, err))
    evaluation = json.loads(out)["evaluation"]
    signed = " ".join(_done(machine.run("eval", "verify", evaluation["id"])).out.split())
    published = float(adapter.result["scores"]["last"][metric])
    score = math.log(evaluation["score"]) if metric == "loss" else evaluation["score"]
    is_close = abs(score - published) <= noise_floor(metric, items)
    print(
        f"{adapter.cell.path:<34} published {100 * published:6.2f}  by the worker {100 * score:6.2f}  "
        f"{'ok' if is_close else 'DIFFERS'}  {signed}",
        flush=True,
    )
    return bool(is_close)


def _done(done: Done) -> Done:
    if done.status:
        raise SystemExit(f"{done.out}{done.err}")
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a part of experiment/model/task/method/seed that must occur")
    found = [each for each in committed(parser.parse_args().only) if each.cell.experiment in EXPERIMENTS]
    return run(found)


if __name__ == "__main__":
    raise SystemExit(main())
