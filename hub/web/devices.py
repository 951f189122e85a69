"""The page where somebody lets in a program that shows them a code: on this machine or on any other."""

from __future__ import annotations

from functools import partial
from typing import Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from hub.access.services import HubParts, Services
from hub.access.writing import writing_as
from hub.auth.policy import Principal
from hub.domain import device_logins
from hub.domain.device_logins import DeviceView
from hub.errors import NotFound
from hub.web.pages import render
from hub.web.settings import Fields, TokenKeeper

router = APIRouter(prefix="/settings/device", include_in_schema=False)
page = partial(router.api_route, methods=["GET", "HEAD"])
form = partial(router.post, status_code=303, response_class=Response)

Answer = Literal["allow", "read", "deny"]


@page("")
def ask_page(request: Request, _: TokenKeeper) -> Response:
    """Asks for the code."""
    return render(request, "device.html", device=None, answered=None, problem=None)


@form("")
def ask(request: Request, principal: TokenKeeper, fields: Fields, parts: HubParts) -> Response:
    """On to the page of the code that was typed."""
    typed = next(iter(fields.get("code", [])), "")
    try:
        device = _find(parts, principal, typed)
    except NotFound as error:
        return render(request, "device.html", status=404, device=None, answered=None, problem=str(error))
    return RedirectResponse(f"/settings/device/{device.user_code}", 303)


@page("/{code}")
def confirm_page(request: Request, principal: TokenKeeper, code: str, parts: HubParts) -> Response:
    """Who asks to be let in."""
    try:
        device = _find(parts, principal, code)
    except NotFound as error:
        return render(request, "device.html", status=404, device=None, answered=None, problem=str(error))
    return render(request, "device.html", device=device, answered=None, problem=None)


@form("/{code}/{answer}")
def confirm(request: Request, principal: TokenKeeper, *, code: str, answer: Answer, parts: HubParts) -> Response:
    """Lets the program in, or not."""
    device = _find(parts, principal, code)
    with writing_as(parts, principal) as session:
        if answer == "deny":
            device_logins.deny(session, principal, device.user_code)
        else:
            device_logins.allow(session, principal, device.user_code, is_to_read_only=answer == "read")
    return render(request, "device.html", device=device, answered=answer, problem=None)


def _find(parts: Services, principal: Principal, code: str) -> DeviceView:
    """Raises NotFound for a code that nobody waits with, and TooMany for who has tried too many of them."""
    key = str(principal.account_id)
    parts.wrong_device_codes.check(key)
    try:
        with parts.database.reading() as session:
            return device_logins.find(session, principal, code)
    except NotFound:
        parts.wrong_device_codes.note(key)
        raise
