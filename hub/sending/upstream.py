"""Reading another hub: from the one origin that was configured, with its token and nobody else's, redirects not followed."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from threading import Timer
from typing import BinaryIO
from urllib.parse import urlsplit

from hub.errors import BlobCorrupt, Moved, StartRefused, Unavailable

# Connecting, and the first byte of an answer.
TIMEOUT_S = 10.0
# The slowest that a body may come: an answer has TIMEOUT_S and as long as its most bytes take at this rate.
_BYTES_PER_S = 1 << 20
_PIECE_BYTES = 1 << 20
_MAX_PROBLEM_BYTES = 64 * 1024
_STILL_THERE = (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED)


@dataclass(frozen=True)
class Reply:
    """An answer. `body` is None where it is what the ETag named that was sent."""

    body: bytes | None
    etag: str | None


def read_token(file: Path | None) -> str | None:
    """The token in `file`. Raises StartRefused."""
    if file is None:
        return None
    try:
        token = file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _no_token(file) from error
    if not token.isascii() or not token.isprintable() or not token or " " in token:
        raise _no_token(file)
    return token


class Upstream:
    """The hub at `origin`, which is `https://hub.example.org` with or without a port."""

    def __init__(self, origin: str, token: str | None = None) -> None:
        self.origin = origin
        self._parts, self._token = urlsplit(origin), token

    def get(self, path: str, *, max_bytes: int, etag: str | None = None) -> Reply | None:
        """What is at `path`, None when there is nothing that this hub may see.

        Raises Unavailable when there is no answer to use, BlobCorrupt for one of more than `max_bytes`, and Moved for
        an adapter that has another name there.
        """
        with self._answer(path, max_bytes, etag) as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            self._require_usable(answer, path)
            found = answer.headers.get("etag")
            if answer.status == HTTPStatus.NOT_MODIFIED:
                return Reply(None, found or etag)
            return Reply(b"".join(self._pieces(answer, path, max_bytes)), found)

    def copy(self, path: str, into: BinaryIO, *, max_bytes: int) -> None:
        """Writes what is at `path` into a file. Raises what `get` does, and Unavailable where nothing is."""
        with self._answer(path, max_bytes, None) as answer:
            self._require_usable(answer, path)
            for piece in self._pieces(answer, path, max_bytes):
                into.write(piece)

    def _answer(self, path: str, max_bytes: int, etag: str | None) -> _Answer:
        headers = {"User-Agent": "vera-hub", "Accept-Encoding": "identity"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if etag is not None:
            headers["If-None-Match"] = etag
        return _Answer(self, self._connection(), path, headers, TIMEOUT_S + max_bytes / _BYTES_PER_S)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "http":  # on this machine, says the setting
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())

    def _require_usable(self, answer: http.client.HTTPResponse, path: str) -> None:
        if answer.status in _STILL_THERE:
            return
        if answer.status == HTTPStatus.TEMPORARY_REDIRECT:
            new = _new_name(answer.read(_MAX_PROBLEM_BYTES))
            if new is not None:
                old = "/".join(path.split("/")[4:6])
                raise Moved(f"{old} is {new} now: use that name.", code="ADAPTER_MOVED", old=old, new=new)
        raise silent(self.origin, f"it answered {answer.status}")

    def _pieces(self, answer: http.client.HTTPResponse, path: str, max_bytes: int) -> Iterator[bytes]:
        size = 0
        while piece := answer.read(_PIECE_BYTES):
            size += len(piece)
            if size > max_bytes:
                raise mismatch(self.origin, f"{path} has more than {max_bytes:,} bytes")
            yield piece
        if answer.length:  # it broke off
            raise silent(self.origin, "its answer broke off")


class _Answer:
    """One exchange, over when its time is, whatever the other side does."""

    def __init__(
        self,
        upstream: Upstream,
        connection: http.client.HTTPConnection,
        path: str,
        headers: dict[str, str],
        limit_s: float,
    ) -> None:
        self._origin, self._connection, self._path, self._headers = upstream.origin, connection, path, headers
        self._ends = time.monotonic() + limit_s
        self._alarm = Timer(limit_s, self._cut)
        self._alarm.daemon = True

    def __enter__(self) -> http.client.HTTPResponse:
        self._alarm.start()
        try:
            self._connection.request("GET", self._path, headers=self._headers)
            return self._connection.getresponse()
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
            self._connection.close()

    def _cut(self) -> None:
        sock = self._connection.sock
        if sock is not None:
            with suppress(OSError), closing(sock):
                sock.shutdown(2)


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


def _new_name(body: bytes) -> str | None:
    try:
        problem = json.loads(body)
        new = problem["facts"]["new"] if problem["code"] == "ADAPTER_MOVED" else None
    except (ValueError, KeyError, TypeError):
        return None
    return new if isinstance(new, str) and len(new) <= 200 else None


def _no_token(file: Path) -> StartRefused:
    return StartRefused(
        f"VERA_HUB_UPSTREAM_TOKEN_FILE is {file}, which holds no token that can be read: write one into it, alone.",
        code="UPSTREAM_TOKEN_INVALID",
        exit_code=1,
    )
