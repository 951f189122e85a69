"""One GET of another server that is over when its time is, whatever that server does."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from threading import Timer

from hub.errors import BlobCorrupt, Unavailable

# Connecting, and the first byte of an answer.
TIMEOUT_S = 10.0
# The slowest that a body may come: an answer has TIMEOUT_S and as long as its most bytes take at this rate.
_BYTES_PER_S = 1 << 20
_PIECE_BYTES = 1 << 20


class Exchange:
    """A request for `path` over a connection of its own, whose answer may have `max_bytes`; closed at the block's end."""

    def __init__(
        self,
        origin: str,
        connection: http.client.HTTPConnection,
        path: str,
        headers: dict[str, str],
        *,
        max_bytes: int,
    ) -> None:
        self._origin, self._connection, self._path, self._headers = origin, connection, path, headers
        limit_s = TIMEOUT_S + max_bytes / _BYTES_PER_S
        self._ends = time.monotonic() + limit_s
        self._alarm = Timer(limit_s, self._cut)
        self._alarm.daemon = True
        # The connection lets go of it where the answer ends with it.
        self._sock: socket.socket | None = None
        self._answer: http.client.HTTPResponse | None = None

    def __enter__(self) -> http.client.HTTPResponse:
        self._alarm.start()
        try:
            self._connection.request("GET", self._path, headers=self._headers)
            self._sock = self._connection.sock
            self._answer = self._connection.getresponse()
            return self._answer
        except (OSError, http.client.HTTPException) as error:
            self._end()
            raise silent(self._origin, type(error).__name__) from error

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._end()
        if isinstance(error, OSError | http.client.HTTPException) or (error is None and self._is_late):
            raise silent(self._origin, "its answer broke off") from error

    @property
    def _is_late(self) -> bool:
        return time.monotonic() >= self._ends

    def _end(self) -> None:
        self._alarm.cancel()
        with suppress(OSError):
            if self._answer is not None:  # an answer that ends with its connection has the socket, read or not
                self._answer.close()
            self._connection.close()

    def _cut(self) -> None:
        sock = self._sock or self._connection.sock
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


def pieces(origin: str, answer: http.client.HTTPResponse, path: str, max_bytes: int) -> Iterator[bytes]:
    """The body as it comes. Raises BlobCorrupt beyond `max_bytes`, and Unavailable where it breaks off."""
    size = 0
    while piece := answer.read1(_PIECE_BYTES):
        size += len(piece)
        if size > max_bytes:
            raise mismatch(origin, f"{path} has more than {max_bytes:,} bytes")
        yield piece
    if answer.length:
        raise silent(origin, "its answer broke off")


def silent(origin: str, why: str) -> Unavailable:
    return Unavailable(
        f"This is fetched from {origin}, which does not give it now ({why}), and no copy of it is here: try again later.",
        code="UPSTREAM_SILENT",
        upstream=origin,
    )


def mismatch(origin: str, why: str) -> BlobCorrupt:
    return BlobCorrupt(
        f"What {origin} gave is not what it should be ({why}), so nothing of it was kept: tell the operator of "
        "that hub.",
        code="UPSTREAM_MISMATCH",
        upstream=origin,
    )
