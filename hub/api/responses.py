"""Answers as ready bytes, each with the ETag that saves sending it again."""

from __future__ import annotations

import hashlib
from typing import Any

from fastapi import Request, Response
from pydantic_core import to_json

FOR_EVER = "public, max-age=31536000, immutable"
ALWAYS_ASK = "no-cache"
# For whoever asked and nobody else, not even their own disk.
TO_NOBODY_ELSE = "private, no-store"


def answer(request: Request, view: Any, *, status: int = 200, etag: str | None = None) -> Response:
    """`view` as JSON, or 304 when the client has it already. `etag` is a name of its own for what it shows."""
    body = to_json(view)
    etag = etag or f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, **caching(request)}
    if request.method == "GET" and is_known(request, etag):
        return Response(status_code=304, headers=headers)
    return Response(body, status, headers, "application/json")


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


def is_known(request: Request, etag: str) -> bool:
    """True when If-None-Match names this ETag, weakly or not."""
    given = request.headers.get("if-none-match", "")
    return any(each.strip().removeprefix("W/") in (etag, "*") for each in given.split(","))


def hub_url(request: Request) -> str:
    """Where the client reached this hub, without a slash at the end: it takes links back only from there."""
    public = request.app.state.services.settings.public_url
    return (public or str(request.base_url)).rstrip("/")
