"""Several processes that change one file, in turn: reading, changing and writing it is one step for the others."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Nobody else is in such a block for the file `path`, in this process or another; waits until that is so.

    The lock is on a file beside it, `<path>.lock`, because `path` itself is replaced when it is written. It stays
    there, empty, and a process that is killed lets go of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fd = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
