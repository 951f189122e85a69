"""What runs beside the hub, as child processes: started again when they die, and gone when the hub goes."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

STOP_TIMEOUT_S = 10
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

_PR_SET_PDEATHSIG = 1
log = logging.getLogger("hub.beside")


class Supervised:
    """Keeps one program running from `start` to the end of the `with` block.

    It inherits the descriptors `keeps`, and has `drain_s` more than others to end when it is asked to.
    """

    def __init__(self, name: str, log_file: Path | None, *, keeps: Sequence[int] = (), drain_s: float = 0) -> None:
        self._name, self._log_file = name, log_file
        self._keeps, self._drain_s = keeps, drain_s
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Runs the command, with `environment` beside the hub's own."""
        given = {**os.environ, **environment}
        self._thread = threading.Thread(target=self._keep_running, args=(command, given), name=self._name)
        self._thread.start()

    def ask_to_end(self) -> None:
        self._stopping.set()
        with self._lock:
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()

    def stop(self) -> None:
        """Asks the program to end, and ends it when it does not in time."""
        self.ask_to_end()
        with self._lock:
            process = self._process
        if process is not None:
            try:
                process.wait(STOP_TIMEOUT_S + self._drain_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
        if self._thread is not None:
            self._thread.join()

    def _keep_running(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            with self._lock:
                if self._stopping.is_set():
                    return
                process = self._process = self._spawn(command, environment)
            code = process.wait()
            if self._stopping.is_set():
                return
            # One that ran for a while and died is started at once; one that cannot start is left in peace.
            pause_s = FIRST_PAUSE_S if time.monotonic() - began > LONGEST_PAUSE_S else min(2 * pause_s, LONGEST_PAUSE_S)
            log.warning("%s ended", self._name, extra={"exit_code": code, "starts_again_in_s": pause_s})
            self._stopping.wait(pause_s)

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with ExitStack() as held:
            output = held.enter_context(_append_to(self._log_file)) if self._log_file else None
            return subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,  # Ctrl-C in the terminal is for the hub, which then ends what is beside it
                pass_fds=self._keeps,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  # it only makes one system call
            )


def _append_to(file: Path) -> BinaryIO:
    return os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def _end_with_parent() -> None:
    """Has the kernel end the program when the hub is killed and cannot do it."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
