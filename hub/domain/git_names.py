"""What git calls a file: clients of git-like hubs compare it with the name of the file they have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from threading import Lock

_MOST = 50_000


class GitNames:
    """The git names of blobs by their SHA-256, remembered: both follow from the bytes, so none ever changes."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lock = Lock()

    def of(self, sha256: str, read: Callable[[], bytes]) -> str:
        """The name of the blob, whose bytes `read` gives when they are asked for the first time."""
        known = self._known.get(sha256)
        if known is not None:
            return known
        name = git_name(read())
        with self._lock:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[sha256] = name
        return name


def git_name(data: bytes) -> str:
    """The 40 hex digits of git for a file with these bytes (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
