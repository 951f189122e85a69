"""The leases of the jobs in hand: kept by a thread for as long as there is work on them, which also ends what is answered in vain."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from hub.worker.runner import ChildDied
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
        self._worked_on: Sequence[Job] = ()
        self._ending, self._limit_s, self._ends_at = stop, 0.0, 0.0
        self._done: Sequence[int] = ()
        self._is_stuck = False
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
    def limited(
        self, jobs: Sequence[Job], limit_s: float, stop: Callable[[], object] | None = None, *, what: str = "Answering"
    ) -> Iterator[None]:
        """What works on these jobs is stopped (what answers them, unless `stop` stops something else) once it takes longer without
        getting on, or when all their leases are lost. The ChildDied of what took too long says so."""
        with self._lock:
            self._worked_on, self._ending, self._limit_s = jobs, stop or self._stop, limit_s
            self._ends_at, self._done, self._is_stuck = self._clock() + limit_s, (), False
        try:
            yield
        except ChildDied as error:
            if self._is_stuck:
                raise ChildDied(
                    f"{what} got no further for more than {limit_s:,.0f} seconds, and was ended."
                ) from error
            raise
        finally:
            with self._lock:
                self._worked_on = ()

    def note_progress(self, done: Sequence[int]) -> None:
        """So much is answered of each job: what gets on has its whole time again."""
        with self._lock:
            if list(done) != list(self._done):
                self._done, self._ends_at = list(done), self._clock() + self._limit_s

    def give_up(self, job: Job) -> None:
        """Nobody keeps its lease any more: the hub gives it to another worker once that has run out."""
        self._lost.add(job.id)
        self._held.pop(job.id, None)

    def is_lost(self, job: Job) -> bool:
        return job.id in self._lost

    def let_go(self, job: Job) -> None:
        """Its result is handed in: nobody is to hear of it any more."""
        self._held.pop(job.id, None)

    def _keep(self, job: Job) -> None:
        try:
            self._beat(job)
        except LeaseLost:
            self.give_up(job)
        except HubError as error:  # away for a moment: the lease outlasts several beats
            _log.warning("heartbeat_failed", job=job.id, code=error.code)

    def _stop_what_is_in_vain(self) -> None:
        """At each beat again: what answers may be about to start."""
        with self._lock:
            jobs = self._worked_on
            if not jobs:
                return
            if self._clock() > self._ends_at:
                self._is_stuck = True
                _log.warning("job_stuck", jobs=[job.id for job in jobs])
            if self._is_stuck or all(map(self.is_lost, jobs)):
                self._ending()
