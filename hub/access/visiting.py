"""Somebody at a browser: known by a cookie, and protected from what other sites make their browser send."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response

from hub.access.permission import Allowed
from hub.access.services import Services, services
from hub.auth.policy import Action, Principal
from hub.domain.users import SESSION_LIFETIME
from hub.errors import Forbidden, Malformed, Unauthorized
from hub.settings import Settings

# No query, no backslash, no second slash: nothing a browser could read as another site.
_OWN_PATH = re.compile(r"/(?:[A-Za-z0-9._~@-]+(?:/[A-Za-z0-9._~@-]+)*)?")


class Visiting(Allowed):
    """`Allowed` for a page: the token is the session's, from its cookie and never from a header. A session that is
    over is as good as none; what changes something must have been sent by a page of ours."""

    async def __call__(self, request: Request, parts: Annotated[Services, Depends(services)]) -> Principal | None:
        if request.method not in ("GET", "HEAD"):
            _require_own_page(request)
        try:
            return await super().__call__(request, parts)
        except Unauthorized:
            if self.action not in (Action.READ, Action.SIGN_IN):
                raise
            request.state.principal = None
            return None

    def credential(self, request: Request) -> str | None:
        return request.cookies.get(cookie_name(request.app.state.services.settings))


def cookie_name(settings: Settings) -> str:
    """With TLS a name that browsers keep to this very host; on loopback, where there is none, a plain one."""
    return "__Host-vera-session" if _has_tls(settings) else "vera-session"


def set_session(response: Response, settings: Settings, token: str) -> None:
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        path="/",
        secure=_has_tls(settings),
        httponly=True,
        samesite="lax",
    )


def clear_session(response: Response, settings: Settings) -> None:
    response.delete_cookie(cookie_name(settings), path="/", secure=_has_tls(settings), httponly=True, samesite="lax")


def own_path(text: str) -> str:
    """`text` as a path of this hub, to go on to. Raises Malformed for whatever could lead elsewhere."""
    if not _OWN_PATH.fullmatch(text):
        raise Malformed("That is no page of this hub: start from the first one.", code="REDIRECT_INVALID")
    return text


def _require_own_page(request: Request) -> None:
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site == "same-origin"
    else:  # an older browser says at least where the page is from
        is_ours = origin is not None and urlsplit(origin).netloc == request.headers.get("host")
    if not is_ours:
        raise Forbidden(
            "This was not sent by a page of this hub, so it was not done: open the page and try again.", code="CSRF"
        )


def _has_tls(settings: Settings) -> bool:
    return (settings.public_url or "").startswith("https://")
