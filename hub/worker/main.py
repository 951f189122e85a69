"""The worker's loop: register, claim, run, report; drain on SIGTERM.

The parent holds the token, the lease and the right answers. A heartbeat goes on while the child
computes; when the lease is lost the child is stopped and the job is left to whoever has it now.
"""

from __future__ import annotations

import os
import platform
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from hub.worker import suites
from hub.worker.runner import ChildDied, JobRefused, Runner
from hub.worker.suites import BATCH_SIZE, Suite
from sdk import bases
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import HubError, LeaseLost, Unauthorized, Unavailable
from sdk.fetching import fetch, with_pair
from sdk.models import Job
from vera import archive
from vera.errors import VeraError
from vera.ref import AdapterRef

HEARTBEAT_S = 15.0
# No adapter of these suites takes a tenth of this: what does is stuck, and stuck for ever.
JOB_LIMIT_S = 3600.0
IDLE_S = 1.0
# A hub that is away is asked again at this pace, and not faster by a thousand workers at once.
AWAY_S = 5.0

_log = structlog.get_logger("worker")


@dataclass
class Worker:
    """One worker of one hub. `run` returns when `stopping` is set and the job in hand is done."""

    hub: Hub
    name: str
    suites: Mapping[str, Suite]
    runner: Runner = field(default_factory=Runner)
    stopping: threading.Event = field(default_factory=threading.Event)
    heartbeat_s: float = HEARTBEAT_S
    job_limit_s: float = JOB_LIMIT_S

    def run(self) -> None:
        try:
            worker_id = self._register()
            while worker_id and not self.stopping.is_set():
                self._turn(worker_id)
        finally:
            self.runner.stop()

    def _register(self) -> str | None:
        declarations = [suite.declaration() for suite in self.suites.values()]
        while not self.stopping.is_set():
            try:
                worker_id = self.hub.register_worker(self.name, declarations)
            except Unavailable as error:
                _log.warning("hub_away", detail=str(error))
                self.stopping.wait(AWAY_S)
            else:
                _log.info("registered", worker=worker_id, suites=sorted(self.suites))
                return worker_id
        return None

    def _turn(self, worker_id: str) -> None:
        try:
            job = self.hub.claim_job(worker_id, sorted(self.suites), bases=bases.fingerprints_here(self.hub.config))
        except Unauthorized:
            raise
        except HubError as error:
            _log.warning("claim_failed", code=error.code, detail=str(error))
            self.stopping.wait(AWAY_S)
            return
        if job is None:
            self.stopping.wait(IDLE_S)
            return
        try:
            self._work(job)
        except LeaseLost:
            _log.warning("lease_lost", job=job.id)
        except HubError as error:
            _log.warning("report_failed", job=job.id, code=error.code, detail=str(error))

    def _work(self, job: Job) -> None:
        _log.info("job_started", job=job.id, ref=job.ref, suite=job.suite)
        started = time.monotonic()
        try:
            with self._heartbeat(job):
                reply = self._evaluate(job)
            outcomes = self.suites[job.suite].grade(reply["outputs"])
        except JobRefused as error:
            self.hub.report_failure(job, code=error.code, detail=str(error), may_retry=False)
        except VeraError as error:
            self.hub.report_failure(job, code=error.code, detail=str(error), may_retry=False)
        except ChildDied as error:
            self.hub.report_failure(job, code="WORKER_CRASHED", detail=str(error), may_retry=True)
        else:
            seconds = time.monotonic() - started
            self.hub.submit_result(
                job, outcomes=outcomes, outputs=reply["outputs"], environment=reply["environment"], seconds=seconds
            )
            _log.info("job_done", job=job.id, seconds=round(seconds, 2))

    def _evaluate(self, job: Job) -> dict[str, Any]:
        suite, ref = self.suites[job.suite], AdapterRef.parse(job.ref)
        version = AdapterRef(ref.namespace, ref.name, digest=job.version_digest)
        fetched = with_pair(fetch(version, hub=self.hub), hub=self.hub)
        with tempfile.TemporaryDirectory(prefix="vera-eval-") as folder:
            adapter, images = Path(folder) / "adapter", Path(folder) / "images"
            images.mkdir()
            archive.write_folder(fetched.archive, adapter)
            return self.runner.run(
                {
                    "base": self._base(fetched.archive.manifest.base.fingerprint),
                    "adapter": str(adapter),
                    "asked": suite.request(images),
                    "batch_size": int(job.spec.get("batch_size", BATCH_SIZE)),
                }
            )

    def _base(self, fingerprint: str) -> dict[str, Any]:
        table = bases.table_of(fingerprint, hub=self.hub)
        path = bases.locate(fingerprint, config=self.hub.config)
        return {"path": str(path), "fingerprint": fingerprint, "tensors": table.to_rows()}

    @contextmanager
    def _heartbeat(self, job: Job) -> Iterator[None]:
        """Keep the lease of `job`. When it is lost the child is stopped, with LeaseLost at the end; when
        the job goes on beyond its limit the child is stopped as well, with ChildDied."""
        over, lost = threading.Event(), threading.Event()
        ends_at = time.monotonic() + self.job_limit_s

        def beat() -> None:
            while not over.wait(self.heartbeat_s):
                if time.monotonic() > ends_at:
                    _log.warning("job_stuck", job=job.id, limit_s=self.job_limit_s)
                    self.runner.stop()  # and again at the next beat: the child may be about to start
                    continue
                try:
                    self.hub.heartbeat(job)
                except LeaseLost:
                    lost.set()
                    self.runner.stop()
                except HubError as error:  # away for a moment: the lease outlasts several beats
                    _log.warning("heartbeat_failed", job=job.id, code=error.code)

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        except ChildDied:
            if lost.is_set():
                raise LeaseLost(f"The lease of {job.id} ended while it ran.") from None
            raise
        finally:
            over.set()
            thread.join()


def main(
    name: str | None = None,
    config: Config | None = None,
    *,
    suite_names: Sequence[str] = (),
    datasets: Path | None = None,
) -> int:
    """Work for the hub of `config` until SIGTERM or Ctrl-C. The exit status: 0, or 1 when the token is refused.

    `suite_names` are suite files, folders of them and names of built-in suites; without any, the built-in suites
    whose data is here are run. Raises SuiteError and DataError before anything is done.
    """
    known = suites.named(suite_names, datasets=datasets) if suite_names else suites.available(datasets)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(os.fdopen(os.dup(2), "w", buffering=1)),
    )
    with Hub(config or Config.resolve()) as hub:
        worker = Worker(hub, name or f"{platform.node()}-{os.getpid()}", known)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stopping.set())
        try:
            worker.run()
        except HubError as error:
            _log.error("stopped", code=error.code, detail=str(error))
            return 1
    return 0
