"""The page a person sees when there is nothing else to show."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse

from hub.web.pages import render

_TITLES = {
    401: "That did not sign you in",
    403: "That is not yours to do",
    404: "There is nothing here",
    405: "This page only reads",
    422: "That address makes no sense to the hub",
    500: "The hub has made a mistake",
    503: "The hub is busy",
}


def wants_page(request: Request) -> bool:
    """True when a browser asks for something outside the API, so that an error should be a page and not JSON."""
    is_api = request.url.path.startswith(("/api/", "/openapi.json", "/healthz", "/metrics"))
    return not is_api and "text/html" in request.headers.get("accept", "")


def to_sign_in(request: Request) -> RedirectResponse:
    """To the page where one signs in, and back from there."""
    return RedirectResponse(f"/signin?next={quote(request.url.path, safe='/')}", 303)


def error_page(request: Request, status: int, detail: str, *, request_id: str | None = None) -> HTMLResponse:
    """The page for the HTTP `status`; `detail` is the sentence that says what to do."""
    title = _TITLES.get(status) or HTTPStatus(status).phrase
    return render(request, "error.html", status=status, code=status, title=title, detail=detail, request_id=request_id)
