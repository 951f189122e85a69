"""What this process has answered, counted for whoever watches it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # when each count began: a line more for every one, which nobody asks about

# What is asked all day takes a few milliseconds; a push with its commit some tens, and a large file as long as its reader.
_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Everything by which one request differs from another goes here, or strangers could have us count without end.
_OTHER = "other"
_HUNDRED = 100


class Metering:
    """Counts of requests by the template of their route, and what takes too long to be found for each reading.

    `registry` has the counts. They are this process's own and say so, so that those of several add up, whichever answers."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self.process = str(os.getpid())
        self._clock, self._found = clock, dict[str, tuple[float, int]]()
        self._seconds = Histogram(
            "vera_hub_request_seconds",
            "From the first byte of a request to the last of its answer.",
            ("process", "method", "route", "status"),
            buckets=_BUCKETS_S,
            registry=self.registry,
        )

    def note(self, method: str, route: str | None, status: int | None, seconds: float) -> None:
        """Counts an answer. `route` is None for an address that has none, `status` where the client went away before."""
        shown = f"{status // _HUNDRED}xx" if status is not None else "gone"
        method = method if method in _METHODS else _OTHER
        self._seconds.labels(self.process, method, route or _OTHER, shown).observe(seconds)

    def lately(self, name: str, find: Callable[[], int], *, holds_s: float) -> int:
        """What `find` gives, or gave no longer than `holds_s` ago."""
        now = self._clock()
        at, number = self._found.get(name, (-holds_s, 0))
        if name not in self._found or now - at > holds_s:
            number = find()
            self._found[name] = now, number
        return number
