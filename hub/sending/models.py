"""Reading public models from the hub that has them: never with a token, and after its redirects.

Hubs keep large files elsewhere and say so by a redirect. Such a one is followed to an address of the internet, over
HTTPS, and to no other, so that nobody reaches through this hub into its network.
"""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import SplitResult, urljoin, urlsplit

from hub.errors import Forbidden, Invalid, NotFound
from hub.sending.addresses import find_target
from hub.sending.exchange import TIMEOUT_S, Exchange, mismatch, pieces, silent
from hub.sending.posting import PinnedConnection
from hub.sending.upstream import connect

_MAX_REDIRECTS = 5
# A signed address of a store is long.
_MAX_URL = 8000
_REDIRECTS = (301, 302, 303, 307, 308)
_HEADERS = {"User-Agent": "vera-hub", "Accept-Encoding": "identity"}
_OUR_CODES = {"RevisionNotFound": "VERSION_UNKNOWN", "EntryNotFound": "FILE_UNKNOWN"}


class ModelHub:
    """The hub at `origin`, which is `https://hub.example.org` with or without a port."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._parts = urlsplit(origin)

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """What is at `path`. Raises what `stream` does."""
        with self.stream(path, max_bytes=max_bytes) as found:
            return b"".join(found)

    @contextmanager
    def stream(self, path: str, *, max_bytes: int) -> Iterator[Iterator[bytes]]:
        """The pieces of what is at `path`.

        Raises NotFound for a model, a revision or a file that nobody has, Forbidden for one that is not everybody's,
        Unavailable when there is no answer to use, and BlobCorrupt for one of more than `max_bytes`.
        """
        url = f"{self.origin}{path}"
        for _ in range(_MAX_REDIRECTS):
            with self._exchange(url, max_bytes) as answer:
                if answer.status not in _REDIRECTS:
                    self._require_given(answer, path)
                    yield pieces(self.origin, answer, path, max_bytes)
                    return
                url = urljoin(url, answer.headers.get("location", ""))
        raise silent(self.origin, f"it redirected more than {_MAX_REDIRECTS} times")

    def _exchange(self, url: str, max_bytes: int) -> Exchange:
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Exchange(self.origin, self._connection(url, parts), path, _HEADERS, max_bytes=max_bytes)

    def _connection(self, url: str, parts: SplitResult) -> http.client.HTTPConnection:
        if parts[:2] == self._parts[:2]:
            return connect(self._parts)
        try:
            target = find_target(url, allow_loopback=self._parts.scheme == "http", max_url=_MAX_URL)
        except Invalid as error:
            raise mismatch(self.origin, f"it redirects to where this hub does not go: {error}") from error
        return PinnedConnection(target, ssl.create_default_context(), TIMEOUT_S)

    def _require_given(self, answer: http.client.HTTPResponse, path: str) -> None:
        if answer.status == HTTPStatus.OK:
            return
        said = answer.headers.get("x-error-code", "")
        if said == "GatedRepo" or answer.status == HTTPStatus.FORBIDDEN:
            raise Forbidden(
                f"{self.origin} gives this model to whom its owners let in, so it is not passed on: fetch it there.",
                code="BASE_GATED",
            )
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED):
            code = _OUR_CODES.get(said, "ADAPTER_UNKNOWN")
            raise NotFound(f"{self.origin} has nothing at {path[:300]}: check the name and the revision.", code=code)
        raise silent(self.origin, f"it answered {answer.status}")
