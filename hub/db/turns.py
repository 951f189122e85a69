"""Whose turn it is to write: SQLite takes one write at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

# Far less than a write takes, so that a process that waits meets the moment between two writes of another one.
_LOOK_AGAIN_S = 0.0002


class Turns:
    """The turns of all who write to one database: threads of this process, and processes that share `file`.

    SQLite has those who wait look again after up to a tenth of a second, and then whoever looks first is next: beside a
    process that always has more to write, another one waits for seconds. The turn of a process that is killed is over.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._descriptor = file, -1
        self._lock = Lock()

    @contextmanager
    def one(self, timeout_s: float) -> Iterator[None]:
        """A turn, until the block ends. Raises TimeoutError when none comes."""
        until = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            raise TimeoutError
        try:
            self._take_file(until)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._lock.release()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _take_file(self, until: float) -> None:
        if self._descriptor < 0:
            self._descriptor = _opened(self._file)
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise TimeoutError from None
                time.sleep(_LOOK_AGAIN_S)
            else:
                return


def _opened(file: Path) -> int:
    """Its descriptor. Made by root, it belongs to the owner of the folder, as what SQLite makes beside a database does."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        folder = file.parent.stat()
        os.fchown(descriptor, folder.st_uid, folder.st_gid)
    return descriptor
