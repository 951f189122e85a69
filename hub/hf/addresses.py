"""Addresses of this wire: which they are, and segments with a slash in them kept whole."""

from __future__ import annotations

from urllib.parse import quote, unquote

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from hub.api.responses import hub_url

# What else their hub keeps, and this one does not.
_OTHER_KINDS = ("datasets", "spaces", "kernels", "buckets")
# What follows the name of a model, and the parts of an address that ends with a name without a namespace.
_AT_A_REVISION = ("revision", "tree", "paths-info", "refs", "commits", "preupload", "commit")
_ONE_NAME = 3


def is_wire(path: str) -> bool:
    """True for an address that only clients of this wire ask for."""
    segments = path.split("/")[1:]
    if segments[0] == "api":
        return segments[1:2] != ["v1"]
    if segments[0] in _OTHER_KINDS:
        return "resolve" in segments
    return "resolve" in segments[1:3]  # gpt2/resolve/…, as whole names were once


def is_of_no_adapter(path: str) -> bool:
    """True for an address without a route that names something by a name no adapter has: a data set, or a model
    without a namespace. What their hub tells of a model and this one does not, or of other things, names none."""
    segments = path.split("/")[1:]
    if segments[0] != "api" or len(segments) == 1 or segments[1] in _OTHER_KINDS:
        return True
    return segments[1] == "models" and (len(segments) <= _ONE_NAME or segments[3] in _AT_A_REVISION)


class WholeSegments:
    """Keeps `%2F` as it is in addresses of this wire: clients send `refs%2Fheads%2Fmain` and `a%2Fb.txt` as one segment,
    and routes match on what the server has decoded."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = scope.get("raw_path") or b""
        if scope["type"] == "http" and b"%2f" in raw.lower() and is_wire(scope["path"]):
            kept = raw.replace(b"%2F", b"%252F").replace(b"%2f", b"%252F").decode("latin-1")
            inner = {**scope, "path": unquote(kept)}
            await self._app(inner, receive, send)
            scope["route"] = inner.get("route")
            return
        await self._app(scope, receive, send)


def whole(segment: str) -> str:
    """A segment of an address as the client meant it."""
    return segment.replace("%2F", "/")


def page_after(request: Request, cursor: str) -> str:
    """The `Link` to the page of a list that begins at `cursor`."""
    following = request.url.include_query_params(cursor=cursor)
    return f'<{hub_url(request)}{quote(following.path)}?{following.query}>; rel="next"'
