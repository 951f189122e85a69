"""Reading another hub: from the one origin that was configured, with its token and nobody else's, redirects not followed."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import SplitResult, urlsplit

from hub.errors import Moved
from hub.sending.exchange import TIMEOUT_S, Exchange, mismatch, pieces, silent
from vera.errors import VeraError
from vera.ref import check_adapter_id

_MAX_PROBLEM_BYTES = 64 * 1024
_STILL_THERE = (HTTPStatus.OK, HTTPStatus.NOT_MODIFIED)


@dataclass(frozen=True)
class Reply:
    """An answer. `body` is None where it is what the ETag named that was sent."""

    body: bytes | None
    etag: str | None


def connect(origin: SplitResult) -> http.client.HTTPConnection:
    """A connection to an origin that the settings name, wherever that is."""
    host, port = origin.hostname or "", origin.port
    if origin.scheme == "http":  # on this machine, says the setting
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())


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
            return Reply(b"".join(pieces(self.origin, answer, path, max_bytes)), found)

    def copy(self, path: str, into: BinaryIO, *, max_bytes: int) -> None:
        """Writes what is at `path` into a file. Raises what `get` does, and Unavailable where nothing is."""
        with self._answer(path, max_bytes, None) as answer:
            self._require_usable(answer, path)
            for piece in pieces(self.origin, answer, path, max_bytes):
                into.write(piece)

    def _answer(self, path: str, max_bytes: int, etag: str | None) -> Exchange:
        headers = {"User-Agent": "vera-hub", "Accept-Encoding": "identity"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if etag is not None:
            headers["If-None-Match"] = etag
        return Exchange(self.origin, connect(self._parts), path, headers, max_bytes=max_bytes)

    def _require_usable(self, answer: http.client.HTTPResponse, path: str) -> None:
        if answer.status in _STILL_THERE:
            return
        if answer.status == HTTPStatus.TEMPORARY_REDIRECT:
            new = _new_name(answer.read(_MAX_PROBLEM_BYTES))
            if new is not None:
                old = "/".join(path.split("/")[4:6])
                self._require_name(old, new)
                raise Moved(f"{old} is {new} now: use that name.", code="ADAPTER_MOVED", old=old, new=new)
        raise silent(self.origin, f"it answered {answer.status}")

    def _require_name(self, old: str, new: str) -> None:
        """Raises BlobCorrupt unless `new` can be an adapter's name: it becomes the address that clients are sent to."""
        try:
            namespace, _, name = new.partition("/")
            check_adapter_id(namespace, name)
        except VeraError as error:
            raise mismatch(self.origin, f"{old} is {new[:80]!r} there now, which is no name") from error


def _new_name(body: bytes) -> str | None:
    try:
        problem = json.loads(body)
        new = problem["facts"]["new"] if problem["code"] == "ADAPTER_MOVED" else None
    except (ValueError, KeyError, TypeError):
        return None
    return new if isinstance(new, str) and len(new) <= 200 else None
