"""Answers as ready bytes, each with the ETag that saves sending it again."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

from hub.access import once
from hub.access.once import Given
from vera import possession

FOR_EVER = "public, max-age=31536000, immutable"
ALWAYS_ASK = "no-cache"
# For whoever asked and nobody else, not even their own disk.
TO_NOBODY_ELSE = "private, no-store"


def answer(request: Request, view: Any, *, status: int = 200, etag: str | None = None) -> Response:
    """`view` as JSON, or 304 when the client has it already. `etag` is a name of its own for what it shows."""
    body = to_json(view)
    etag = etag or _etag_of(body)
    headers = {"ETag": etag, **caching(request)}
    if request.method == "GET" and is_known(request, etag):
        return Response(status_code=304, headers=headers)
    once.note(request, Given(status, etag, body))
    return Response(body, status, headers, "application/json")


def answer_again(request: Request, given: Given) -> Response:
    """What was answered before to a request that has come again, which says so."""
    headers = {**({"ETag": given.etag, **caching(request)} if given.etag else {}), "Idempotency-Replayed": "true"}
    return Response(given.body, given.status, headers, "application/json" if given.body else None)


def linked(response: Response, request: Request, cursor: str | None) -> Response:
    """The response with the address of the next page, if there is one, in its `Link` header."""
    if cursor is not None:
        address = request.url.include_query_params(cursor=cursor)
        response.headers["Link"] = f'<{address.path}?{address.query}>; rel="next"'
    return response


def caching(request: Request) -> dict[str, str]:
    """How long an answer holds that depends on who asks: with a token it is theirs alone."""
    policy = ALWAYS_ASK if request.state.principal is None else TO_NOBODY_ELSE
    return {"Cache-Control": policy, "Vary": "Authorization"}


def etag_of(view: Any) -> str:
    """The ETag with which `answer` gives the view."""
    return _etag_of(to_json(view))


def is_known(request: Request, etag: str) -> bool:
    """True when If-None-Match names this ETag, weakly or not."""
    return names(request.headers.get("if-none-match", "").replace("W/", ""), etag)


def names(given: str, etag: str) -> bool:
    """True when the ETag is one of those in a header, or `*` is there for all."""
    return any(each.strip() in (etag, "*") for each in given.split(","))


def hub_url(request: Request) -> str:
    """Where the client reached this hub, without a slash at the end: it takes links back only from there."""
    public = request.app.state.services.settings.public_url
    return (public or str(request.base_url)).rstrip("/")


def hub_names(request: Request) -> frozenset[str]:
    """How a worker may name this hub in what it signs: as its settings say, or as this request does, which `Gate` has looked at."""
    settings = request.app.state.services.settings
    given = (settings.public_url, *settings.allowed_hosts, request.headers.get("host"))
    return frozenset(possession.hub_in(each) for each in given if each)


def _etag_of(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'
