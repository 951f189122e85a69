"""Pushes that wait for the same turn are written in it together: SQLite takes one transaction at a time, and each waits
for the disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from threading import Lock
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from hub.db.prepared import driver_of

Result = TypeVar("Result")
# All of them wait for the last.
_MOST = 8


class _Job:
    """What somebody waits for: `work` in a session, and what came of it."""

    def __init__(self, work: Callable[[Session], Any]) -> None:
        self.work = work
        self.answer: Future[Any] = Future()
        self.result: Any = None
        self.error: BaseException | None = None

    def tell(self) -> None:
        if self.error is not None:
            self.answer.set_exception(self.error)
        else:
            self.answer.set_result(self.result)


class Together:
    """Who is first does the work of all who wait, in one `transaction`, and in it each in an `own` session: what is raised
    there takes back what that one has done and nothing else. All are answered once it is committed."""

    def __init__(
        self,
        transaction: Callable[[], AbstractContextManager[Session]],
        own: Callable[[Session], AbstractContextManager[Session]],
    ) -> None:
        self._transaction, self._own = transaction, own
        self._waiting: deque[_Job] = deque()
        self._first = Lock()

    def write(self, work: Callable[[Session], Result], timeout_s: float) -> Result:
        """What `work` gives, which is committed then. Raises what it raises, what the transaction does, and TimeoutError when
        nobody could take it so long."""
        job = _Job(work)
        self._waiting.append(job)
        if self._first.acquire(timeout=timeout_s):
            try:
                while not job.answer.done():
                    self._write_waiting()
            finally:
                self._first.release()
        elif self._withdraw(job):
            raise TimeoutError
        result: Result = job.answer.result()
        return result

    def _withdraw(self, job: _Job) -> bool:
        """False where somebody has just taken it."""
        try:
            self._waiting.remove(job)
        except ValueError:
            return False
        return True

    def _write_waiting(self) -> None:
        jobs = self._take()
        try:
            with self._transaction() as session:
                jobs += self._take(_MOST - len(jobs))  # who came while this one waited for its turn
                self._do(session, jobs)
        except BaseException as error:
            for job in jobs:
                job.error = error
        for job in jobs:
            job.tell()

    def _take(self, most: int = _MOST) -> list[_Job]:
        taken: list[_Job] = []
        while self._waiting and len(taken) < most:
            taken.append(self._waiting.popleft())
        return taken

    def _do(self, session: Session, jobs: Sequence[_Job]) -> None:
        if len(jobs) == 1:
            jobs[0].result = jobs[0].work(session)
            return
        for job in jobs:
            try:
                with self._own(session) as own:
                    job.result = job.work(own)
            except Exception as error:
                if not driver_of(session).in_transaction:
                    raise  # SQLite has taken back what all have done, as it does on a full disk
                job.error = error
