"""The hub's log: a line of JSON per event, without a token in it."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import Any

from hub.auth.tokens import redact

_MAX_BYTES = 10 << 20
_OLD_FILES = 3


def configure_logs(file: Path | None, *, rotates: bool = True) -> None:
    """Sends everything that is logged in this process to `file`, or to standard error. Of several processes that write to
    one file, one rotates it, and the others go on in the new one, a second later at most: what they write until then stands
    at the end of the old one."""
    handler = _file_handler(file, rotates=rotates) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk is said to those who write, not on every line


def _file_handler(file: Path, *, rotates: bool, clock: Callable[[], float] = time.monotonic) -> logging.Handler:
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return _Rotating(file, clock) if rotates else _Watching(file, clock)


class _OnceASecond:
    """When the file is looked at again: for each line it would take several times as long as to write the line, and every
    request waits for its own."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._last = clock, clock()

    def is_due(self) -> bool:
        now = self._clock()
        if now - self._last < 1:
            return False
        self._last = now
        return True


class _Rotating(RotatingFileHandler):
    """Begins a new file when this one is full, by some lines more or less."""

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        self._look = _OnceASecond(clock)
        super().__init__(file, maxBytes=_MAX_BYTES, backupCount=_OLD_FILES)

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802  # as logging has it
        return self._look.is_due() and bool(super().shouldRollover(record))


class _Watching(WatchedFileHandler):
    """Goes on in the file that has the name, once there is a new one."""

    def __init__(self, file: Path, clock: Callable[[], float]) -> None:
        self._look = _OnceASecond(clock)
        super().__init__(file)

    def reopenIfNeeded(self) -> None:  # noqa: N802
        if self._look.is_due():
            super().reopenIfNeeded()


# What a record has without being given it; uvicorn's second copy of its message is for terminals.
_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", "color_message"}


class _Line(logging.Formatter):
    """A record as a line of JSON, with what it was given as `extra`. Ours, since structlog brings rich, 3 MB of an idle hub."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {"event": record.getMessage()}
        event |= {name: value for name, value in vars(record).items() if name not in _OWN}
        at = datetime.fromtimestamp(record.created, UTC).isoformat().replace("+00:00", "Z")
        event |= {"level": record.levelname.lower(), "logger": record.name, "pid": record.process, "timestamp": at}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return redact(json.dumps(event, default=repr))
