"""How a process of the hub listens, says so, and stops."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from hub.cli.deadlines import PromptProtocol
from hub.errors import StartRefused
from vera.ending import end_at_once

# In-flight requests get this long to finish when the hub is stopped.
DRAIN_S = 30


class Server(uvicorn.Server):
    """uvicorn, saying when it really listens, and when it is about to stop and still answers."""

    def __init__(self, app: FastAPI, *, ready: Callable[[], None], leaving: Callable[[], None]) -> None:
        super().__init__(_uvicorn_config(app))
        self._ready = ready
        self._leaving = leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await run_in_threadpool(self._leaving)
        await super().shutdown(sockets)


def begin_process() -> None:
    """What a process of the hub writes is its owner's alone, and whoever asks it to end before it listens is heard."""
    end_at_once()
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)  # uvicorn takes them over while it runs, and hands them back at its end


def listen(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A socket at the address. Raises StartRefused where another program has it; several of one user, all of them shared,
    may have it together, and the kernel spreads connections between them."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartRefused(
            f"{host} port {port} cannot be used ({error.strerror}): choose another with --port; 0 takes a free one.",
            code="ADDRESS_TAKEN",
            exit_code=1,
        ) from error
    return listener


def _uvicorn_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,  # ours is set up
        access_log=False,  # the gate writes a line per request
        server_header=False,
        proxy_headers=False,  # nobody's word about who is calling is taken
        http=PromptProtocol,
        ws="none",
        timeout_graceful_shutdown=DRAIN_S,
    )


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
