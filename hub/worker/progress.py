"""How far the adapters of a request are, told while they are answered."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hub.worker.runner import Tell

# No heartbeat comes so often that more would be seen.
_EVERY_S = 0.5


class Progress:
    """What `adapters` of a request have answered of `asked`. An adapter that begins anew begins at nothing."""

    def __init__(self, adapters: int, asked: Mapping[str, Any], tell: Tell) -> None:
        self._done, self._of, self._tell = [0] * adapters, rows_of(asked), tell

    @contextmanager
    def of(self, numbers: Collection[int]) -> Iterator[None]:
        """The items that are done within it are answered by these adapters, all at once."""
        from vera.nn import inputs

        def count(rows: int) -> None:
            for number in numbers:
                self._done[number] = min(self._of, self._done[number] + rows)
            self._tell(self._done, self._of)

        for number in numbers:
            self._done[number] = 0
        with inputs.telling(count):
            yield


def rows_of(asked: Mapping[str, Any]) -> int:
    """How many answers one adapter gives: each turn of a conversation is one."""
    if "conversations" in asked:
        return sum(len(turns) for turns in asked["conversations"])
    return max(len(value) for value in asked.values() if isinstance(value, list))


def now_and_then(tell: Tell, *, every_s: float = _EVERY_S) -> Tell:
    """Tells it at most so often: a small model has hundreds of batches in a second."""
    told_at = -every_s

    def sparing(done: Sequence[int], of: int) -> None:
        nonlocal told_at
        if (now := time.monotonic()) - told_at >= every_s:
            told_at = now
            tell(done, of)

    return sparing
