"""How many may wait for another server at a time: one that takes every connection and says nothing is not to hold all threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from hub.errors import Unavailable

# A hub has 40 threads for requests: more than half of them never wait for another server.
PLACES = 16


class Places:
    """So many places to wait for the server at `origin`. Who finds none is told at once."""

    def __init__(self, origin: str, most: int = PLACES) -> None:
        self._origin, self._free = origin, BoundedSemaphore(most)

    @contextmanager
    def one(self) -> Iterator[None]:
        """A place until the block ends. Raises Unavailable."""
        if not self._free.acquire(blocking=False):
            raise busy(self._origin)
        try:
            yield
        finally:
            self._free.release()


def busy(origin: str) -> Unavailable:
    """What is said where as many wait for the server at `origin` as may."""
    return Unavailable(
        f"This is fetched from {origin}, for which as many wait already as this hub lets wait, and no copy of it is here: "
        "try again in a moment.",
        code="UPSTREAM_BUSY",
        upstream=origin,
    )
