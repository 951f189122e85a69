"""Trying again when a hub cannot be reached or is busy, with pauses that grow, in silence.

Whoever has a user to tell (the command line) says so through `announce`; from Python nothing is
printed or logged.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic, sleep
from typing import TypeVar

from sdk.errors import Unavailable

T = TypeVar("T")

ATTEMPTS = 4
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0
# All attempts together: after that the answer is not waited for any longer.
LONGEST_IN_ALL_S = 60.0
# A hub that asks for a longer pause than this is reported instead of waited for.
LONGEST_RETRY_AFTER_S = 30.0


def _in_silence(_error: Unavailable, _pause_s: float) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Retries:
    """How a request is tried again. `announce` is called with the error and the pause in seconds before each pause."""

    announce: Callable[[Unavailable, float], None] = _in_silence

    def run(self, work: Callable[[], T]) -> T:
        """What `work` gives; after an Unavailable that may be retried, what it gives the next time."""
        started = monotonic()
        for attempt in range(ATTEMPTS - 1):
            try:
                return work()
            except Unavailable as error:
                pause_s = _pause_s(error, attempt)
                if pause_s is None or monotonic() - started + pause_s > LONGEST_IN_ALL_S:
                    raise
                self.announce(error, pause_s)
                sleep(pause_s)
        return work()


def _pause_s(error: Unavailable, attempt: int) -> float | None:
    """How long to wait before the next attempt, None when there should be none.

    The jitter keeps clients that were turned away together from coming back together.
    """
    if not error.may_retry:
        return None
    if error.retry_after_s is not None:
        return error.retry_after_s if error.retry_after_s <= LONGEST_RETRY_AFTER_S else None
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0**attempt) + random.uniform(0, FIRST_WAIT_S)
