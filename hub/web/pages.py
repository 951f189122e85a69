"""From a template and its values to a response that a browser may be trusted with."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from hub.web import figures
from hub.web.assets import asset_url
from vera.metrics import ADVISORY, SHARES

_VERSION = re.compile(r"v[0-9]+")
_IN_BACKTICKS = re.compile(r"`([^`]+)`")

# A page loads its own style and its own script and nothing else: what a card smuggles in cannot run,
# call out, be framed, or send a form elsewhere.
SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, a form would be sent with `Origin: null`, by which older browsers, and all where there is no TLS,
    # could not show that the page is ours (https://fetch.spec.whatwg.org/#append-a-request-origin-header).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def render(request: Request, template: str, *, status: int = 200, **values: object) -> HTMLResponse:
    """The page `template` makes of `values`. Every value is escaped; only a sanitised card is not."""
    visitor = getattr(request.state, "principal", None)  # a mistake may come before anybody is known
    mirrored = getattr(request.state, "mirrored", None)
    html = (
        _environment()
        .get_template(template)
        .render(here=request.url.path, visitor=visitor, mirrored=mirrored, **values)
    )
    caching = {"Cache-Control": "no-cache" if visitor is None else "private, no-store", "Vary": "Cookie"}
    return HTMLResponse(html, status, {**SECURITY_HEADERS, **caching})


def tagged(request: Request, body: bytes, media_type: str, headers: Mapping[str, str]) -> Response:
    """A file that a page names: with the ETag that saves sending it again, and for nobody else where somebody asks."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    is_public = getattr(request.state, "principal", None) is None
    caching = {"Cache-Control": "no-cache" if is_public else "private, no-store", "Vary": "Cookie", "ETag": etag}
    if request.headers.get("if-none-match", "").removeprefix("W/") == etag:
        return Response(status_code=304, headers=caching)
    return Response(body, headers={**caching, **headers}, media_type=media_type)


def page_of(ref: str) -> str:
    """The path of the page of a version: `/demo/topics/v2` for `demo/topics@v2`, `/demo/topics@prod` for that."""
    adapter_id, _, pin = ref.partition("@")
    return f"/{adapter_id}/{pin}" if _VERSION.fullmatch(pin) else f"/{ref}"


def with_code(sentence: str) -> Markup:
    """The sentence of an error or a warning, with what stands between backticks as code, as a terminal's reader takes it."""
    return Markup(_IN_BACKTICKS.sub(r"<code>\1</code>", str(escape(sentence))))  # noqa: S704  # escaped before


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("hub.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(asset=asset_url, times=figures.times, ScoreAxis=figures.ScoreAxis)
    environment.tests.update(share=SHARES.__contains__, advisory=ADVISORY.__contains__)
    environment.filters.update(
        size=figures.size,
        thousands=figures.thousands,
        score=figures.score,
        noise=figures.noise,
        duration=figures.duration,
        metric=figures.metric,
        when=figures.when,
        day=figures.day,
        short_digest=figures.short_digest,
        pretty_json=figures.pretty_json,
        flat=figures.flat,
        page_of=page_of,
        with_code=with_code,
    )
    return environment
