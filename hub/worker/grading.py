"""Grading in a process of its own: what a task's own code, or a program, makes of strange texts may never end. Then the process does.

It is a copy of the worker's process, which has the suite and its right answers already. Where processes are not copied safely
(everywhere but on Linux) the worker grades itself, and a job that takes too long is given up.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from hub.worker import noise
from hub.worker.runner import ChildDied
from hub.worker.suite import Results, Suite
from vera.errors import VeraError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_FORKING = threading.Lock()  # no copy holds the end of another one's pipe


class Grader:
    """Grades what adapters answered, one after the other. `can_stop` says whether that can be ended from outside."""

    can_stop = _LIBC is not None

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._lock = threading.Lock()

    def graded(self, suite: Suite, reply: Mapping[str, Any]) -> Results:
        """As `noise.graded`. Raises as that, and ChildDied when it was stopped, or crashed."""
        if not self.can_stop:
            return noise.graded(suite, reply)
        process, receiver = self._start(lambda: noise.graded(suite, reply))
        try:
            found = _received(process, receiver)
        finally:
            receiver.close()
            self.stop()
        if isinstance(found, Results):
            return found
        code, detail = found
        raise VeraError(detail, code=code)

    def stop(self) -> None:
        """Ends what is being graded, from whichever thread. Whoever waits for it gets ChildDied."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()

    def _start(self, grade: Callable[[], Results]) -> tuple[BaseProcess, Connection]:
        context = multiprocessing.get_context("fork")
        with _FORKING, warnings.catch_warnings():
            # From 3.12 on: that a lock which another thread holds is held in the copy for ever. That is then ended, too.
            warnings.simplefilter("ignore", DeprecationWarning)
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_grade, args=(grade, sender, os.getpid()), daemon=True)
            process.start()
            sender.close()
        with self._lock:
            self._process = process
        return process, receiver


def _received(process: BaseProcess, receiver: Connection) -> Results | tuple[str, str]:
    """Raises ChildDied."""
    wait([receiver, process.sentinel])
    with suppress(EOFError, OSError):
        if receiver.poll():
            found: Results | tuple[str, str] = receiver.recv()
            return found
    raise ChildDied("The process that grades ended without a result: the worker's log may say why.")


def _grade(grade: Callable[[], Results], sender: Connection, parent: int) -> None:
    """In the copy: Ctrl-C is the worker's to handle, and when that is killed nobody waits for a result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert _LIBC is not None
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return
    try:
        found: Results | tuple[str, str] = grade()
    except VeraError as error:
        found = error.code, str(error)
    sender.send(found)
