"""The worker's loop: register, claim, run, report.

The parent holds the token, the lease and the right answers. A heartbeat goes on until the result is
handed in; when the lease is lost the child is stopped and the job is left to whoever has it now.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import structlog

from hub.worker import keys, memory, noise
from hub.worker.errors import DiskFailed, JudgeFailed, NotComputed, SuiteError
from hub.worker.grading import Grader
from hub.worker.leases import Leases
from hub.worker.runner import ChildDied, Engine, JobRefused, Runner
from hub.worker.suite import BATCH_SIZE, Results, Suite
from sdk import bases, digest_books, tensor_tables
from sdk.client import Hub
from sdk.errors import Forbidden, HubError, LeaseLost, Unauthorized, Unavailable
from sdk.fetching import fetch, with_pair
from sdk.models.jobs import Job
from vera import archive, attestation, canonical_json
from vera.attestation import Evaluated
from vera.errors import ArchiveError, VeraError
from vera.ref import AdapterRef
from vera.signing import SigningKey

HEARTBEAT_S = 15.0
# Jobs that are taken along with one of their suite. Another worker finds the rest.
MOST_TOGETHER = 16
# For each adapter of a group, until one more item is answered, and for grading it. None takes a tenth of this: what does is stuck,
# and stuck for ever.
JOB_LIMIT_S = 3600.0
IDLE_S = 1.0
# A hub that is away is asked again at this pace, and not faster by a thousand workers at once.
AWAY_S = 5.0

# What is the machine's doing, and not the adapter's: another worker may have more of it, or this one a little later.
_OF_THE_MACHINE = ("OUT_OF_MEMORY", "HARNESS_MISSING", JudgeFailed.code, NotComputed.code, DiskFailed.code)

_log = structlog.get_logger("worker")

# What the child said of one adapter, or why it said nothing.
Unanswered = JobRefused | ChildDied | HubError | VeraError
Reply = dict[str, Any] | Unanswered


@dataclass
class Worker:
    """One worker of one hub. `run` returns when `stopping` is set and the job in hand is done."""

    hub: Hub
    name: str
    suites: Mapping[str, Suite]
    runner: Engine = field(default_factory=Runner)
    stopping: threading.Event = field(default_factory=threading.Event)
    heartbeat_s: float = HEARTBEAT_S
    job_limit_s: float = JOB_LIMIT_S
    most_together: int = MOST_TOGETHER
    memory_bytes: int | None = field(default_factory=memory.available)
    # Of suites, the metrics that this machine cannot compute, and why.
    lacks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # Of jobs in hand, by their ids: the items that are answered. The heartbeat takes it along.
    _done: dict[str, int] = field(default_factory=dict, init=False)
    clock: Callable[[], float] = time.monotonic
    grader: Grader = field(default_factory=Grader)

    @cached_property
    def key(self) -> SigningKey:
        """What this machine's workers sign their results with."""
        return keys.key_in(self.hub.config.folder)

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
                worker_id = self.hub.register_worker(
                    self.name,
                    declarations,
                    key=self.key,
                    memory_bytes=self.memory_bytes,
                    lacks=self.lacks,
                )
            except Unavailable as error:
                _log.warning("hub_away", detail=str(error))
                self.stopping.wait(AWAY_S)
            else:
                _log.info("registered", worker=worker_id, key=self.key.public.id, suites=sorted(self.suites))
                return worker_id
        return None

    def _turn(self, worker_id: str) -> None:
        try:
            job = self.hub.claim_job(worker_id, sorted(self.suites), bases=self._bases())
        except (Unauthorized, Forbidden):
            raise
        except HubError as error:
            _log.warning("claim_failed", code=error.code, detail=str(error))
            self.stopping.wait(AWAY_S)
            return
        if job is None:
            self.stopping.wait(IDLE_S)
            return
        self._work([job, *self._alike(worker_id, job)])

    def _bases(self) -> list[str]:
        return [each for each in bases.fingerprints_here(self.hub.config) if each not in self.runner.lacking]

    def _alike(self, worker_id: str, job: Job) -> Iterator[Job]:
        """Further jobs on the suite of `job` that wait now: they can be answered together."""
        for _ in range(self.most_together - 1):
            try:
                more = self.hub.claim_job(worker_id, [job.suite], bases=self._bases())
            except HubError:
                return
            if more is None:
                return
            yield more

    def _work(self, jobs: Sequence[Job]) -> None:
        """Evaluate `jobs`, all of one suite, and report each."""
        for job in jobs:
            _log.info("job_started", job=job.id, ref=job.ref, suite=job.suite)
        started = time.monotonic()
        leases = Leases(jobs, self._beat, self.runner.stop, every_s=self.heartbeat_s, clock=self.clock)
        with leases.kept():
            replies = self._evaluate(jobs, leases)
            seconds = (time.monotonic() - started) / len(jobs)
            for job, reply in zip(jobs, replies, strict=True):
                self._hand_in(job, reply, seconds, leases)

    def _hand_in(self, job: Job, reply: Reply, seconds: float, leases: Leases) -> None:
        """Grade and report one of several, within its lease: some metrics take a minute."""
        started = time.monotonic()
        found = self._graded(job, reply, leases)
        try:
            if leases.is_lost(job):
                _log.warning("lease_lost", job=job.id)
            else:
                self._report(job, found, seconds + time.monotonic() - started)
        except LeaseLost:
            _log.warning("lease_lost", job=job.id)
        except HubError as error:
            _log.warning("report_failed", job=job.id, code=error.code, detail=str(error))
        finally:
            leases.let_go(job)
            self._done.pop(job.id, None)

    def _beat(self, job: Job) -> None:
        self.hub.heartbeat(job, items_done=self._done.get(job.id))

    def _graded(self, job: Job, reply: Reply, leases: Leases) -> Results | Unanswered:
        if isinstance(reply, Exception):
            return reply
        suite = self.suites[job.suite]
        try:
            if not suite.is_graded_apart:
                return noise.graded(suite, reply)
            stop = self.grader.stop if self.grader.can_stop else partial(leases.give_up, job)
            with leases.limited([job], self.job_limit_s, stop, what="Grading"):
                return self.grader.graded(suite, reply)
        except (ChildDied, VeraError) as error:
            return error

    def _report(self, job: Job, reply: Results | Unanswered, seconds: float) -> None:
        if isinstance(reply, HubError):  # its files were not to be had: the lease runs out, and somebody tries again
            raise reply
        if isinstance(reply, ChildDied):
            self.hub.report_failure(job, code="WORKER_CRASHED", detail=str(reply), may_retry=True)
            return
        if isinstance(reply, JobRefused | VeraError):
            may_retry = reply.code in _OF_THE_MACHINE
            self.hub.report_failure(job, code=reply.code, detail=str(reply), may_retry=may_retry)
            return
        salt = attestation.new_salt()
        try:
            envelope = self._signed(job, reply, seconds, salt)
        except SuiteError as error:
            self.hub.report_failure(job, code=error.code, detail=str(error), may_retry=False)
            return
        self.hub.submit_result(
            job, outcomes=reply.outcomes, beside=reply.beside, outputs=reply.outputs, environment=reply.environment,
            seconds=seconds, envelope=envelope, salt=salt,
        )  # fmt: skip
        _log.info("job_done", job=job.id, seconds=round(seconds, 2))

    def _signed(self, job: Job, found: Results, seconds: float, salt: str) -> dict[str, Any]:
        """Raises SuiteError for what cannot be written down, as half of a surrogate pair in what was answered."""
        evaluated = Evaluated(
            job=job.id,
            fence=job.fence,
            ref=job.ref,
            version_digest=job.version_digest,
            weights_digest=job.weights_digest,
            spec=job.spec,
            spec_digest=job.spec_digest,
            outcomes={self.suites[job.suite].stated.metric: found.outcomes, **found.beside},
            scores=found.scores,
            outputs=found.outputs,
            environment=found.environment,
            seconds=seconds,
            salt=salt,
        )
        try:
            return attestation.signed(evaluated, self.key)
        except canonical_json.Impossible as error:
            raise SuiteError(f"What {job.ref} was answered cannot be signed: {error}.") from error

    def _evaluate(self, jobs: Sequence[Job], leases: Leases) -> list[Reply]:
        """What became of each. Those of a group that a child did not survive are tried again one by one: one of them may be why."""
        groups: dict[str, list[int]] = {}
        for number, job in enumerate(jobs):
            groups.setdefault(job.base.fingerprint, []).append(number)
        found: dict[int, Reply] = {}
        for numbers in groups.values():
            replies = self._answers([jobs[number] for number in numbers], leases)
            for number, reply in zip(numbers, replies, strict=True):
                died = len(numbers) > 1 and isinstance(reply, ChildDied)
                is_to_be_tried = died and not leases.is_lost(jobs[number])
                found[number] = self._answers([jobs[number]], leases)[0] if is_to_be_tried else reply
        return [found[number] for number in range(len(jobs))]

    def _answers(self, jobs: Sequence[Job], leases: Leases) -> list[Reply]:
        """Of jobs on one base and one suite."""
        try:
            with tempfile.TemporaryDirectory(prefix="vera-eval-") as folder:
                return self._answers_in(Path(folder), jobs, leases)
        except OSError as error:
            failed = DiskFailed(f"The worker could not write what is evaluated: {error}. See that it has room.")
            return [failed] * len(jobs)

    def _answers_in(self, folder: Path, jobs: Sequence[Job], leases: Leases) -> list[Reply]:
        there = [self._fetched(job, folder / str(number)) for number, job in enumerate(jobs)]
        images = folder / "images"
        images.mkdir()
        fetched = [job for job, path in zip(jobs, there, strict=True) if isinstance(path, Path)]
        adapters = [str(path) for path in there if isinstance(path, Path)]
        try:
            replies = iter(self._asked(fetched, adapters, images, leases) if fetched else [])
        except (ChildDied, HubError, VeraError) as error:
            return [error if isinstance(path, Path) else path for path in there]
        return [next(replies) if isinstance(path, Path) else path for path in there]

    def _asked(self, jobs: Sequence[Job], adapters: Sequence[str], images: Path, leases: Leases) -> Sequence[Reply]:
        suite = self.suites[jobs[0].suite]

        def note(done: Sequence[int], of: int) -> None:
            for job, rows in zip(jobs, done, strict=True):
                self._done[job.id] = suite.items * rows // of
            leases.note_progress(done)

        request = {
            "base": self._base(jobs[0].base.fingerprint),
            "adapters": adapters,
            "asked": suite.request(images),
            "batch_size": int(jobs[0].spec.get("batch_size", BATCH_SIZE)),
        }
        with leases.limited(jobs, self.job_limit_s * len(jobs)):
            return self.runner.run(request, note)

    def _fetched(self, job: Job, folder: Path) -> Path | HubError | VeraError:
        """The adapter of `job` as `folder`."""
        ref = AdapterRef.parse(job.ref)
        version = AdapterRef(ref.namespace, ref.name, digest=job.version_digest)
        try:
            fetched = with_pair(fetch(version, hub=self.hub), hub=self.hub).archive
            _require_weights(job, f"sha256:{fetched.manifest.weights.sha256}")
            archive.write_folder(fetched, folder)
        except (HubError, VeraError) as error:
            return error
        return folder

    def _base(self, fingerprint: str) -> dict[str, Any]:
        table = tensor_tables.table_of(fingerprint, hub=self.hub)
        path = bases.locate(fingerprint, config=self.hub.config)
        digests = str(digest_books.digests_of(self.hub.config))
        return {"path": str(path), "fingerprint": fingerprint, "tensors": table.to_rows(), "digests": digests}


def _require_weights(job: Job, got: str) -> None:
    """What is signed is what was evaluated, and not what the hub calls it."""
    if job.weights_digest != got:
        raise ArchiveError(
            f"{job.ref} has the weights {got}, and the hub's job is about {job.weights_digest}: nothing is evaluated.",
            code="DIGEST_MISMATCH",
            expected=job.weights_digest,
            got=got,
        )
