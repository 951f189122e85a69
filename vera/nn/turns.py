"""Threads on one model, in turn: a pass that must go through one adapter, and whoever changes what passes go through."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self


class Turns:
    """A lock that a thread may take again while it has it. A copy of what has one has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    def __deepcopy__(self, _memo: object) -> Turns:
        return Turns()
