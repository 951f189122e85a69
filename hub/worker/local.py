"""Folders evaluated on this machine, without a hub: what the worker asks, grades and is scored by, and no lease."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hub.scoring import grouped, statistics
from hub.worker import noise
from hub.worker.runner import ChildDied, JobRefused, Runner
from hub.worker.suite import BATCH_SIZE, Results, Suite
from sdk import bases, digest_books, tensor_tables
from sdk.config import Config
from sdk.errors import Refused
from vera import archive
from vera.manifest import Manifest


@dataclass(frozen=True)
class Answered:
    """What an adapter answered to a suite, and what each answer is worth."""

    folder: Path
    manifest: Manifest
    results: Results
    started_at: datetime
    finished_at: datetime


def evaluate(suite: Suite, folders: Sequence[Path], *, base: str | None, config: Config) -> dict[str, Any]:
    """The evaluation of each folder, of two the comparison of the first with the second, and what the first is worth by each
    task of a group, as a hub answers them.

    The base is `base` (a name or a path), otherwise the one that the adapter names. Raises VeraError, Refused
    and ChildDied.
    """
    answered = answers(suite, folders, base=base, config=config)
    evaluations = [_evaluation(suite, each) for each in answered]
    compared = _comparison(suite, answered) if len(answered) == 2 else None
    return {"evaluations": evaluations, "comparison": compared, "tasks": _tasks(suite, answered[0].results)}


def answers(suite: Suite, folders: Sequence[Path], *, base: str | None, config: Config) -> list[Answered]:
    """What the adapter in each folder answers, one after the other in one child. Raises as `evaluate`."""
    runner = Runner()
    try:
        return [_answer(runner, suite, folder, base, config) for folder in folders]
    finally:
        runner.stop()


def _answer(runner: Runner, suite: Suite, folder: Path, base: str | None, config: Config) -> Answered:
    started_at, manifest = datetime.now(UTC), archive.read_folder(folder).manifest
    path = _base_of(manifest, base, config)
    table = tensor_tables.fingerprint_of(path, config=config)
    with tempfile.TemporaryDirectory(prefix="vera-eval-") as images:
        (reply,) = runner.run(
            {
                "base": {
                    "path": str(path),
                    "fingerprint": table.value,
                    "tensors": table.to_rows(),
                    "digests": str(digest_books.digests_of(config)),
                },
                "adapters": [str(folder.absolute())],
                "asked": suite.request(Path(images)),
                "batch_size": int(suite.declaration()["definition"].get("batch_size", BATCH_SIZE)),
            }
        )
    if isinstance(reply, JobRefused):
        raise Refused(f"{folder}: {reply}", code=reply.code)
    if isinstance(reply, ChildDied):
        raise reply
    return Answered(folder, manifest, noise.graded(suite, reply), started_at, datetime.now(UTC))


def _base_of(manifest: Manifest, wanted: str | None, config: Config) -> Path:
    """Where the base lies: the one that is wanted, or the adapter's own, which is the same wherever it is known."""
    own = manifest.base
    if wanted is None and own.fingerprint in bases.fingerprints_here(config):
        return bases.locate(own.fingerprint, config=config)
    base = wanted or own.name
    return bases.locate(base, config=config, revision=own.revision if base == own.name else None)


def _evaluation(suite: Suite, answered: Answered) -> dict[str, Any]:
    metric = suite.stated.metric
    times = {"created_at": answered.started_at, "started_at": answered.started_at, "finished_at": answered.finished_at}
    return {
        "id": "",
        "ref": str(answered.folder),
        "version_digest": answered.manifest.digest,
        "suite": suite.name,
        "spec_digest": "",
        "state": "done",
        "score": answered.results.scores[metric],
        "interval": list(statistics.interval(metric, answered.results.outcomes)),
        "metric": metric,
        "items": len(answered.results.outcomes),
        "attempts": 1,
        "position": None,
        "reason": None,
        "worker": None,
        "environment": answered.results.environment,
        "beside": {metric: _beside(metric, answered.results) for metric in suite.stated.also},
        **{name: time.isoformat() for name, time in times.items()},
    }


def _beside(metric: str, results: Results) -> dict[str, Any] | None:
    if metric not in results.beside:
        return None
    return {"score": results.scores[metric], "interval": list(statistics.interval(metric, results.beside[metric]))}


def _tasks(suite: Suite, results: Results) -> list[dict[str, Any]]:
    stated = suite.harnessed.tasks if suite.harnessed is not None else {}
    outcomes = {suite.stated.metric: results.outcomes, **results.beside}
    found = grouped.scores([each["items"] for each in stated.values()], outcomes)
    return [
        {
            "task": name,
            "version": str(each["task_version"]),
            "num_fewshot": each["num_fewshot"],
            "items": each["items"],
            "scores": {metric: {"score": score, "interval": list(ends)} for metric, (score, ends) in scores.items()},
        }
        for (name, each), scores in zip(stated.items(), found, strict=True)
    ]


def _comparison(suite: Suite, answered: Sequence[Answered]) -> dict[str, Any]:
    metric, (ours, theirs) = suite.stated.metric, answered
    paired = asdict(statistics.compare(ours.results.outcomes, theirs.results.outcomes, metric))
    return {"metric": metric, "method": statistics.method_of(metric), **paired, "interval": list(paired["interval"])}
