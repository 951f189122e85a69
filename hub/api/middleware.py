"""What happens to every request before a route sees it, and to every answer after."""

from __future__ import annotations

import ipaddress
import logging
import random
import re
import time
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.access.metering import Metering
from hub.api.errors import Renderer, problem_of, respond, unexpected
from hub.auth import tokens
from hub.errors import HubError, Malformed, Unsupported

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# Asked every second by workers and monitors; a log of it would hide the rest.
_ROUTINE = {("/api/v1/worker/claims", 204), ("/healthz", 200), ("/metrics", 200)}
_PORT = re.compile(r"(?::[0-9]{0,5})?")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
# For answers that are not pages: nothing in them may run, be framed or be taken for another type.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

log = logging.getLogger("hub.request")


class Gate:
    """Gives each request an id and a line in the log, counts it, turns away what no route should see, and makes
    whatever a route did not expect a plain 500, or the page that `render` makes of it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        host_names: Collection[str],
        allow_addresses: bool,
        render: Renderer,
        metering: Metering,
    ) -> None:
        self._app, self._render, self._metering = app, render, metering
        self._host_names = LOOPBACK_NAMES | {name.lower() for name in host_names}
        self._allow_addresses = allow_addresses

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        answer = _Answer(send, _request_id(scope), state)
        state["request_id"] = answer.request_id
        try:
            self._check(scope)
            await self._app(scope, receive, answer.send)
        except HubError as error:
            await respond(problem_of(error), answer.request_id)(scope, receive, answer.send)
            log.info("request", extra=_line(scope, answer))
        except ClientDisconnect:
            log.info("the client went away", extra=_line(scope, answer))
        except Exception:
            log.exception("unexpected", extra=_line(scope, answer))
            if answer.status is not None:
                raise  # half an answer is out: only closing the connection can tell the client
            await self._unexpected(scope, answer)(scope, receive, answer.send)
        else:
            level = logging.DEBUG if (scope["path"], answer.status) in _ROUTINE else logging.INFO
            log.log(level, "request", extra=_line(scope, answer))
        finally:
            self._metering.note(scope["method"], _template(scope), answer.status, answer.seconds)

    def _unexpected(self, scope: Scope, answer: _Answer) -> Response:
        try:
            page = self._render(Request(scope), unexpected())
        except Exception:  # a page needs more of the hub than a plain answer does
            page = None
        return page or respond(unexpected(), answer.request_id)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        named = headers.get("host", "")
        host, port = _host_of(named)
        # A page elsewhere can point its own name at 127.0.0.1 and speak to us through the browser.
        is_ours = host in self._host_names or (self._allow_addresses and _is_address(host))
        if not is_ours or not _PORT.fullmatch(port):  # what is no port would make links lead elsewhere
            raise Malformed(
                f"This hub does not answer to the name {named[:80]!r}: use the address it printed when it started, or set "
                "VERA_HUB_PUBLIC_URL.",
                code="HOST_INVALID",
            )
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            raise Malformed("The address holds a NUL character: leave it out.", code="ADDRESS_INVALID")
        if tokens.is_in(unquote(scope["path"])) or tokens.is_in(unquote(scope["query_string"].decode("latin-1"))):
            # Addresses are in logs and histories, everybody's and not only ours.
            raise Malformed(
                "The address holds a token, which others may have read by now: revoke it with `vera-hub token revoke`, "
                "and send the next one in the Authorization header.",
                code="TOKEN_IN_URL",
            )
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            # A few kilobytes of gzip can become gigabytes.
            raise Unsupported(
                f"The body is encoded as {encoding[:40]!r}: send it plain.",
                code="UNSUPPORTED_FORMAT",
                got=encoding[:40],
            )


class _Answer:
    """Passes an answer on with the id and the security headers it lacks, and remembers its status."""

    def __init__(self, send: Send, request_id: str, state: Mapping[str, Any]) -> None:
        self._send = send
        self._state = state
        self.request_id = request_id
        self.status: int | None = None
        self.began = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers["X-Request-Id"] = self.request_id
            if "allowance" in self._state:
                headers.update(self._state["allowance"].headers)
            if self._state.get("mirrored") is not None:
                headers.update(self._state["mirrored"].headers)
            for name, value in _SECURITY_HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


def _template(scope: Scope) -> str | None:
    """The route of a request as it is declared, without what the address has put in."""
    return getattr(scope.get("route"), "path", None)


def _request_id(scope: Scope) -> str:
    """The client's own id when it is harmless, so that both logs name the request alike."""
    given = Headers(scope=scope).get("x-request-id", "")
    if _REQUEST_ID.fullmatch(given):
        return given
    return random.randbytes(8).hex()  # it is no secret, and this asks no kernel


def _host_of(header: str) -> tuple[str, str]:
    """The name in a Host header, without brackets, and all that follows it."""
    if header.startswith("["):
        name, bracket, rest = header[1:].partition("]")
        return name.lower(), rest if bracket else header
    name, colon, port = header.partition(":")
    return name.lower(), colon + port


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _line(scope: Scope, answer: _Answer) -> dict[str, object]:
    return {
        "request_id": answer.request_id,
        "method": scope["method"],
        "path": scope["path"][:200],
        "status": answer.status,
        "ms": round(1000 * answer.seconds, 1),
    }
