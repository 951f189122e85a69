"""The hub's log: a line of JSON per event, without a token in it."""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog
from structlog.typing import EventDict, WrappedLogger

from hub.auth.tokens import redact

_MAX_BYTES = 10 << 20
_OLD_FILES = 3


def configure_logs(file: Path | None) -> None:
    """Sends everything that is logged in this process to `file`, or to standard error."""
    handler = _file_handler(file) if file else logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.stdlib.ExtraAdder(),
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
            ],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a full disk is said to those who write, not on every line


def _file_handler(file: Path) -> logging.Handler:
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return RotatingFileHandler(file, maxBytes=_MAX_BYTES, backupCount=_OLD_FILES)


_as_json = structlog.processors.JSONRenderer()


def _render(logger: WrappedLogger, name: str, event: EventDict) -> str:
    event.pop("color_message", None)  # uvicorn's second copy, for terminals
    return redact(str(_as_json(logger, name, event)))
