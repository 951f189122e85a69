"""What the server does beside its requests, now and then, in a thread of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread

from hub.errors import HubError

log = logging.getLogger(__name__)


class Periodic:
    """Calls `step` every `every_s` seconds, and at once when it is woken, until it is stopped.

    What the database or the disk refuses is tried again at the next call; any other error is in the log.
    """

    def __init__(self, name: str, step: Callable[[], object], *, every_s: float) -> None:
        self._step, self._every_s = step, every_s
        self._woken, self._is_over = Event(), False
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns when a call that was going on is over, and a last one has been made."""
        self._is_over = True
        self._woken.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            self._woken.wait(self._every_s)
            self._woken.clear()
            is_last = self._is_over
            try:
                self._step()
            except HubError as error:
                log.warning("put off", extra={"what": self._thread.name, "code": error.code})
            except Exception:
                log.exception("went wrong", extra={"what": self._thread.name})
