"""A worker that is killed at one step of a job, as kill -9 or a power cut does it. Run as a process:

    python -m tests.worker.mortal URL FOLDER STEP      with the worker's token in VERA_HUB_TOKEN

FOLDER has its configuration and `suite.yaml`; the job it had is left there as `claimed.json`. The adapter is not run: what is
tried out is everything around that.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hub.worker.main import Worker
from hub.worker.runner import Runner, Tell, nobody
from hub.worker.suite_files import read_suite
from hub.worker.suites import load_suite
from sdk.client import Hub
from sdk.config import Config
from sdk.models.jobs import Job

STEPS = ("registered", "claimed", "answering", "heartbeat", "submitting", "submitted")
HEARTBEAT_S = 0.1


class Answering(Runner):
    """Says the same to everything, after a few heartbeats."""

    def __init__(self, step: str | None = None) -> None:
        super().__init__()
        self.step = step

    def run(self, request: dict[str, Any], tell: Tell = nobody) -> list[dict[str, Any]]:  # type: ignore[override]  # it refuses nothing
        die_at("answering", self.step)
        time.sleep(4 * HEARTBEAT_S)
        outputs = ["cat"] * len(request["asked"]["texts"])
        return [{"outputs": outputs, "environment": {"adapters_in_batch": 1}} for _ in request["adapters"]]


class MortalHub(Hub):
    """A client that dies before or after one of its requests."""

    step: str | None = None
    folder = Path()

    def register_worker(self, name: str, suites: Sequence[Any], **more: Any) -> str:
        worker_id = super().register_worker(name, suites, **more)
        die_at("registered", self.step)
        return worker_id

    def claim_job(self, *arguments: Any, **options: Any) -> Job | None:
        job = super().claim_job(*arguments, **options)
        if job is not None:
            (self.folder / "claimed.json").write_text(json.dumps(asdict(job)))
            die_at("claimed", self.step)
        return job

    def heartbeat(self, job: Job, **said: Any) -> None:
        super().heartbeat(job, **said)
        die_at("heartbeat", self.step)

    def submit_result(self, job: Job, **result: Any) -> None:
        die_at("submitting", self.step)
        super().submit_result(job, **result)
        die_at("submitted", self.step)


def die_at(step: str, chosen: str | None) -> None:
    if step == chosen:
        os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, folder: Path, step: str) -> None:
    config = Config(url, folder / "config", folder / "cache", os.environ["VERA_HUB_TOKEN"])
    suite = load_suite(read_suite(folder / "suite.yaml"))
    with MortalHub(config) as hub:
        hub.step, hub.folder = step, folder
        Worker(hub, "mortal", {suite.name: suite}, runner=Answering(step), heartbeat_s=HEARTBEAT_S).run()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
