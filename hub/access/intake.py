"""What request bodies may ask of the hub's memory and patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hub.errors import Unavailable


class Intake:
    """Lets large bodies in a few at a time, since each is held in memory until it is dealt with, and says
    by when the next bytes of one must come, since a body that does not come holds a place too.

    A body that pauses for `pause_s` is given up, and so is one that after as long is slower than
    `slowest_bytes_per_s` on average.
    """

    def __init__(
        self, places: int, *, wait_s: float = 10, pause_s: float = 30, slowest_bytes_per_s: float = 64 * 1024
    ) -> None:
        self._places = asyncio.Semaphore(places)
        self._wait_s = wait_s
        self._pause_s = pause_s
        self._slowest_bytes_per_s = slowest_bytes_per_s

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place for one large body until the block ends. Raises Unavailable when none becomes free for a while."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._places.acquire()
        except TimeoutError as error:
            raise Unavailable(
                "The hub is taking in as much as it can hold: try again in a moment.", code="HUB_BUSY"
            ) from error
        try:
            yield
        finally:
            self._places.release()

    def next_due(self, began: float, received: int) -> float:
        """When more must have come of a body that began then and of which this many bytes are here (the loop's time)."""
        in_step = began + received / self._slowest_bytes_per_s
        return min(asyncio.get_running_loop().time(), in_step) + self._pause_s
