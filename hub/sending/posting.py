"""One POST to a stranger's server: pinned to the address that was checked, five seconds in all, redirects not followed.

A redirect is an answer like any other that is not 2xx: following it would be a second request, to wherever the
stranger likes (the Standard Webhooks specification says the same). Nothing of an answer's body is kept.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from contextlib import closing, suppress
from dataclasses import dataclass
from threading import Timer

from hub.errors import HubError, Invalid
from hub.sending.addresses import Resolver, Target, find_target

TIMEOUT_S = 5.0
MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True)
class Outcome:
    """What came of it: the status of an answer, or a sentence about why there was none."""

    status: int | None
    error: str | None
    milliseconds: int

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Poster:
    """Sends. `resolve` and `tls` are the system's own unless a test says otherwise."""

    def __init__(
        self,
        *,
        allow_loopback: bool = False,
        resolve: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._allow_loopback, self._resolve, self._tls = allow_loopback, resolve, tls
        self._timeout_s = timeout_s
        # A resolver takes as long as it likes, and cannot be stopped.
        self._resolving = ThreadPoolExecutor(8, "resolve")

    def check(self, url: str) -> Target:
        """Where `url` leads. Raises Invalid (URL_FORBIDDEN), also when that is not found out in time."""
        try:
            return self._find(url)
        except Late as error:
            raise Invalid(
                f"The hub does not send to that address: its name was not resolved within {self._timeout_s:g} seconds. "
                "Look at its name servers, and try again.",
                code="URL_FORBIDDEN",
            ) from error

    def _find(self, url: str) -> Target:
        looking = self._resolving.submit(find_target, url, allow_loopback=self._allow_loopback, resolve=self._resolve)
        return looking.result(self._timeout_s)

    def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """What came of sending `body`. Raises nothing for what the other side does."""
        began = time.monotonic()
        status, error = None, None
        try:
            target = self._find(url)
            status = self._exchange(target, headers, body, began + self._timeout_s)
        except Late:
            error = f"There was no answer within {self._timeout_s:g} seconds."
        except HubError as refused:
            error = str(refused)
        except (OSError, http.client.HTTPException) as failed:
            is_late = time.monotonic() - began >= self._timeout_s
            error = f"There was no answer within {self._timeout_s:g} seconds." if is_late else _said_by(failed)
        return Outcome(status, error, int((time.monotonic() - began) * 1000))

    def close(self) -> None:
        self._resolving.shutdown(wait=False, cancel_futures=True)

    def _exchange(self, target: Target, headers: Mapping[str, str], body: bytes, ends: float) -> int:
        """The status of the answer. Raises OSError and HTTPException, also when the time is over."""
        left_s = max(0.001, ends - time.monotonic())
        connection = PinnedConnection(target, self._tls or ssl.create_default_context(), left_s)
        alarm = Timer(left_s, connection.cut)
        alarm.daemon = True
        alarm.start()
        try:
            with closing(connection):
                connection.request("POST", target.path, body, dict(headers))
                with connection.getresponse() as answer:
                    if time.monotonic() >= ends:  # a connection that is cut looks like the end of the headers
                        raise TimeoutError
                    with suppress(OSError, http.client.HTTPException):  # what it says beyond the status is not kept
                        answer.read(MAX_ANSWER_BYTES)
                    return answer.status
        finally:
            alarm.cancel()


class PinnedConnection(http.client.HTTPConnection):
    """A connection to one address, whose certificate must be that of the host as it was named."""

    def __init__(self, target: Target, tls: ssl.SSLContext, timeout_s: float) -> None:
        super().__init__(target.host, target.port, timeout=timeout_s)
        self.default_port = 443 if target.has_tls else 80  # the Host header leaves this one out
        self._target, self._tls, self._timeout_s = target, tls, timeout_s
        self._handle: socket.socket | None = None

    def connect(self) -> None:
        raw = socket.create_connection((self._target.address, self._target.port), self._timeout_s)
        self._handle = raw.dup()  # the handshake takes `raw` over, and may have to be cut short, too
        self.sock = self._tls.wrap_socket(raw, server_hostname=self._target.host) if self._target.has_tls else raw

    def cut(self) -> None:
        """Ends it from another thread, whatever it is waiting for."""
        if self._handle is not None:
            with suppress(OSError):
                self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        super().close()
        if self._handle is not None:
            self._handle.close()


def _said_by(error: Exception) -> str:
    return f"It could not be sent ({type(error).__name__}: {error})."[:500]
