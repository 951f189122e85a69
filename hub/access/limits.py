"""How often somebody may do something. The counts are this process's own, and gone when it ends."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from threading import Lock

from fastapi import Request

from hub.errors import TooMany

_MAX_KEYS = 10_000


class Failures:
    """Lets somebody fail `most` times in `within_s` seconds, and then makes them wait."""

    def __init__(self, most: int = 10, within_s: float = 300, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._within_s, self._clock = most, within_s, clock
        self._times: dict[str, deque[float]] = {}
        self._lock = Lock()

    def check(self, key: str) -> None:
        """Raises TooMany when `key` has failed too often lately."""
        with self._lock:
            times = self._recent(key)
            if times is None or len(times) < self._most:
                return
            wait_s = math.ceil(times[0] + self._within_s - self._clock())
        raise TooMany(
            f"That went wrong {self._most} times: wait {wait_s} seconds.", code="RATE_LIMITED", retry_after_s=wait_s
        )

    def note(self, key: str) -> None:
        """Remembers that `key` has failed now."""
        with self._lock:
            if len(self._times) >= _MAX_KEYS:  # whoever has as many addresses is not held by this
                self._times.clear()
            self._times.setdefault(key, deque(maxlen=self._most)).append(self._clock())

    def _recent(self, key: str) -> deque[float] | None:
        times = self._times.get(key)
        while times and times[0] <= self._clock() - self._within_s:
            times.popleft()
        return times


def address_of(request: Request, trusted_proxies: tuple[str, ...]) -> str:
    """Where a request comes from: the last address in X-Forwarded-For that no proxy of ours added for another."""
    address = request.client.host if request.client else ""
    forwarded = [each.strip() for each in request.headers.get("x-forwarded-for", "").split(",") if each.strip()]
    while address in trusted_proxies and forwarded:
        address = forwarded.pop()
    return address
