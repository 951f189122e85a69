"""Answers that still hold: what was asked for a moment ago is not worked out again while nothing was changed.

Adapters are read far more often than written, and by programs that ask the same again. An answer to a GET is kept
with the database's stamp of before it was worked out, and given again as long as the stamp is the same: whatever
anybody commits, a revoked token among it, ends it at once. What changes with time alone (a token that expires, a
worker that falls silent) is a second late at most.

Of those who ask the same at the same time one is worked for, and the others wait for what comes of it: sixteen who
work out one answer side by side take sixteen times as long, each of them.

An answer is kept for whoever asked: by their token, by the name they have for this hub, which a feed spells, and by
where they come from, since a first request may leave a trace (a download is counted once for each). Only SQLite has a stamp that costs nothing; elsewhere nothing is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIXES = ("/api/v1/adapters", "/api/v1/leaderboards")
HOLDS_S = 1.0
MAX_BODY_BYTES = 512 * 1024
MAX_BYTES = 16 << 20

Headers = list[tuple[bytes, bytes]]
# What of a request an answer may depend on, beside its address.
_ASKED_BY = (b"authorization", b"x-forwarded-for", b"host", b"accept")
_KEPT_IN_304 = (b"etag", b"cache-control", b"vary")


@dataclass(frozen=True)
class _Answer:
    stamp: int
    at: float
    etag: bytes
    headers: Headers
    body: bytes
    route: object


class Answers:
    """The answers that were given last, up to MAX_BYTES of them. `route` is what worked one out: who counts requests asks for it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: OrderedDict[bytes, _Answer] = OrderedDict()
        self._size, self._clock = 0, clock
        self._worked_out: dict[bytes, asyncio.Event] = {}

    def find(self, key: bytes, stamp: int) -> _Answer | None:
        """The answer that was kept under `key`, if it still holds."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found.stamp != stamp or self._clock() - found.at > HOLDS_S:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found

    def keep(self, key: bytes, stamp: int, headers: Headers, body: bytes, route: object = None) -> None:
        etag = dict(headers).get(b"etag")
        if etag is None or len(body) > MAX_BODY_BYTES:
            return
        self._drop(key)
        self._kept[key] = _Answer(stamp, self._clock(), etag, headers, body, route)
        self._size += len(body)
        while self._size > MAX_BYTES:
            self._drop(next(iter(self._kept)))

    def work_out(self, key: bytes) -> Callable[[], None]:
        """From now on those who `wait_for` this answer wait, until what this gives is called: with the answer kept,
        or when there will be none to keep."""
        done = self._worked_out.setdefault(key, asyncio.Event())

        def finish() -> None:
            if self._worked_out.get(key) is done:
                del self._worked_out[key]
            done.set()

        return finish

    async def wait_for(self, key: bytes) -> None:
        """Waits while somebody works the answer out."""
        if key in self._worked_out:
            await self._worked_out[key].wait()

    def _drop(self, key: bytes) -> None:
        dropped = self._kept.pop(key, None)
        self._size -= len(dropped.body) if dropped else 0


class Again:
    """Gives answers that still hold, and keeps those that will."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(PREFIXES):
            await self._app(scope, receive, send)
            return
        parts = scope["app"].state.services
        stamp, headers = parts.database.stamp(), dict(scope["headers"])
        # Who is counted is answered anew, and told how much is left.
        is_counted = b"authorization" not in headers and parts.settings.has_rate_limits
        if stamp is None or b"range" in headers or is_counted:
            await self._app(scope, receive, send)
            return
        key, known = _key_of(scope), headers.get(b"if-none-match", b"")
        found = parts.answers.find(key, stamp)
        if found is None:
            await parts.answers.wait_for(key)
            found = parts.answers.find(key, stamp)
        if found is not None:
            scope["route"] = found.route
            await _give(send, found.etag, found.headers, found.body, known)
            return

        async def keep_and_give(answered: Headers, body: bytes) -> None:
            parts.answers.keep(key, stamp, answered, body, asked.get("route"))
            finish()
            await _give(send, dict(answered).get(b"etag", b""), answered, body, known)

        asked, finish = _asked_in_full(scope), parts.answers.work_out(key)

        async def give_at_once(message: Message) -> None:
            finish()  # before the client takes it: it may be slow
            await send(message)

        try:
            await self._app(asked, receive, _whole(give_at_once, keep_and_give))
        finally:
            finish()
            scope["route"] = asked.get("route")


def _key_of(scope: Scope) -> bytes:
    """The request, hashed: no token is kept in memory."""
    client = (scope.get("client") or ("",))[0]
    by = (part for header in scope["headers"] if header[0] in _ASKED_BY for part in header)
    asked = (scope["path"].encode(), scope["query_string"], client.encode(), *by)
    return hashlib.blake2b(b"\0".join(b"%d:%s" % (len(each), each) for each in asked), digest_size=32).digest()


def _asked_in_full(scope: Scope) -> Scope:
    """The request without its If-None-Match: who has the answer already keeps it warm for all. A file that somebody
    has, alone or with its version, is not fetched, and not counted as a download."""
    if "/blobs/" in scope["path"] or b"with_files=" in scope["query_string"]:
        return scope
    return {**scope, "headers": [each for each in scope["headers"] if each[0] != b"if-none-match"]}


def _whole(send: Send, give: Callable[[Headers, bytes], Awaitable[None]]) -> Send:
    """`send`, leaving to `give` an answer of 200 that comes in one piece."""
    held: list[Message] = []

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            held.append(message)
            return
        if held and message["type"] == "http.response.body" and not message.get("more_body", False):
            await give(list(held.pop()["headers"]), message.get("body", b""))
            return
        if held:
            await send(held.pop())
        await send(message)

    return sending


async def _give(send: Send, etag: bytes, headers: Headers, body: bytes, known: bytes) -> None:
    """The answer, or 304 to who has it. What is sent on may add to its own list of headers, not to this one."""
    if etag and _names(known, etag):
        headers, body = [each for each in headers if each[0] in _KEPT_IN_304], b""
        await send({"type": "http.response.start", "status": 304, "headers": headers})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


def _names(if_none_match: bytes, etag: bytes) -> bool:
    """True when If-None-Match names this ETag, weakly or not."""
    return bool(if_none_match) and any(
        each.strip().removeprefix(b"W/") in (etag, b"*") for each in if_none_match.split(b",")
    )
