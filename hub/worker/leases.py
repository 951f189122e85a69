"""The leases of the jobs in hand: kept by a thread for as long as there is work on them, which also ends what is answered in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from sdk.errors import HubError, LeaseLost
from sdk.models.jobs import Job

_log = structlog.get_logger("worker")


class Leases:
    """`beat` keeps the lease of a job, `stop` ends what is being answered."""

    def __init__(
        self,
        jobs: Sequence[Job],
        beat: Callable[[Job], object],
        stop: Callable[[], object],
        *,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._held = {job.id: job for job in jobs}
        self._beat, self._stop, self._every_s, self._clock = beat, stop, every_s, clock
        self._lost = set[str]()
        self._answered: Sequence[Job] = ()
        self._ends_at = 0.0
        self._lock = threading.Lock()  # what is stopped is what is too long, and not what is answered next

    @contextmanager
    def kept(self) -> Iterator[None]:
        over = threading.Event()

        def beat() -> None:
            while not over.wait(self._every_s):
                for job in list(self._held.values()):
                    self._keep(job)
                self._stop_what_is_in_vain()

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    @contextmanager
    def limited(self, jobs: Sequence[Job], limit_s: float) -> Iterator[None]:
        """What answers these jobs is stopped once it takes longer, or when all their leases are lost."""
        with self._lock:
            self._answered, self._ends_at = jobs, self._clock() + limit_s
        try:
            yield
        finally:
            with self._lock:
                self._answered = ()

    def is_lost(self, job: Job) -> bool:
        return job.id in self._lost

    def let_go(self, job: Job) -> None:
        """Its result is handed in: nobody is to hear of it any more."""
        self._held.pop(job.id, None)

    def _keep(self, job: Job) -> None:
        try:
            self._beat(job)
        except LeaseLost:
            self._lost.add(job.id)
            self._held.pop(job.id, None)
        except HubError as error:  # away for a moment: the lease outlasts several beats
            _log.warning("heartbeat_failed", job=job.id, code=error.code)

    def _stop_what_is_in_vain(self) -> None:
        """At each beat again: what answers may be about to start."""
        with self._lock:
            jobs = self._answered
            if not jobs:
                return
            is_stuck = self._clock() > self._ends_at
            if is_stuck:
                _log.warning("job_stuck", jobs=[job.id for job in jobs])
            if is_stuck or all(map(self.is_lost, jobs)):
                self._stop()
