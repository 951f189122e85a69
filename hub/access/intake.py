"""What request bodies may ask of the hub's memory and patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary

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
        # Half of them, so that nobody's pushes keep everybody else's waiting.
        self._most_each = max(1, places // 2)
        self._of_account: WeakValueDictionary[int | None, asyncio.Semaphore] = WeakValueDictionary()
        self._wait_s = wait_s
        self._pause_s = pause_s
        self._slowest_bytes_per_s = slowest_bytes_per_s

    @asynccontextmanager
    async def place(self, account_id: int | None = None) -> AsyncIterator[None]:
        """A place for one large body until the block ends; one account has half of them at most.

        Raises Unavailable when none becomes free for a while.
        """
        mine = self._of_account.setdefault(account_id, asyncio.Semaphore(self._most_each))
        try:
            async with asyncio.timeout(self._wait_s), AsyncExitStack() as taking:
                await taking.enter_async_context(mine)
                await taking.enter_async_context(self._places)
                taken = taking.pop_all()
        except TimeoutError as error:
            raise Unavailable(
                "The hub is taking in as much as it can hold: try again in a moment.", code="HUB_BUSY"
            ) from error
        async with taken:
            yield

    def next_due(self, began: float, received: int) -> float:
        """When more must have come of a body that began then and of which this many bytes are here (the loop's time)."""
        in_step = began + received / self._slowest_bytes_per_s
        return min(asyncio.get_running_loop().time(), in_step) + self._pause_s
