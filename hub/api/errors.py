"""Every refusal as `application/problem+json` (RFC 9457). The one place that knows status codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from hub import errors
from hub.access.once import GivenBefore
from hub.api.responses import answer_again
from hub.errors import HubError
from vera.errors import VeraError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1

_STATUS: dict[type[HubError], int] = {
    errors.Malformed: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TooSlow: 408,
    errors.Conflict: 409,
    errors.Withheld: 403,
    errors.Gone: 410,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.Unsupported: 415,
    errors.Invalid: 422,
    errors.TooMany: 429,
    errors.Unavailable: 503,
    errors.StorageFull: 507,
}
_FRAMEWORK = {
    404: ("ROUTE_UNKNOWN", "There is nothing at this address: /docs lists what there is."),
    405: ("METHOD_NOT_ALLOWED", "This address does not take that method: /docs lists those it takes."),
}


@dataclass(frozen=True)
class Problem:
    """One refusal, as the client sees it."""

    status: int
    code: str
    detail: str
    is_retryable: bool = False
    facts: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return HTTPStatus(self.status).phrase


# How a door shows a problem when not as JSON; None leaves it to this module.
Renderer = Callable[[Request, Problem], Response | None]


def problem_of(error: HubError | VeraError) -> Problem:
    """What a domain error is over HTTP. What `vera` refuses is always about the content: 422."""
    if isinstance(error, VeraError):
        return Problem(422, error.code, str(error), facts=error.facts)
    status = next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)
    headers = {}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="vera-hub"'
    if status == HTTPStatus.REQUEST_TIMEOUT:
        headers["Connection"] = "close"  # or the rest could still come, as slowly
    if error.is_retryable:
        headers["Retry-After"] = str(error.retry_after_s if isinstance(error, errors.TooMany) else RETRY_AFTER_S)
    return Problem(status, error.code, str(error), error.is_retryable, error.facts, headers)


def _address_now(request: Request, error: errors.Moved) -> str | None:
    """What was asked for, at the new name of the adapter; None where the address does not hold the old one."""
    old, new = str(error.facts["old"]), str(error.facts["new"])
    asked = (request.scope.get("raw_path") or request.url.path.encode()).decode("latin-1")
    found = re.search(rf"/{re.escape(old)}(?=[/@]|$)", asked)
    if found is None:
        return None
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{asked[: found.start()]}/{new}{asked[found.end() :]}{query}"


def unexpected() -> Problem:
    return Problem(
        500, "INTERNAL", "The hub has made a mistake, which is in its log under this request's id: report it."
    )


def respond(problem: Problem, request_id: str) -> Response:
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        "retryable": problem.is_retryable,
        "facts": problem.facts,
    }
    # ASCII: a sentence may quote what a stranger sent, half surrogates and all.
    data = json.dumps(body, default=str).encode("ascii")
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(data, problem.status, headers, MEDIA_TYPE)


def install(app: FastAPI, render: Renderer) -> None:
    """Makes every refusal of the app a problem, or the page that `render` makes of it."""

    def show(request: Request, problem: Problem) -> Response:
        return render(request, problem) or respond(problem, request.state.request_id)

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HubError | VeraError)
        problem = problem_of(error)
        if isinstance(error, errors.Moved) and (address := _address_now(request, error)):
            headers = {"Location": address, "Vary": "Authorization"}
            return respond(replace(problem, status=307, headers=headers), request.state.request_id)
        return show(request, problem)

    def framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, detail = _FRAMEWORK.get(error.status_code, (f"HTTP_{error.status_code}", f"{error.detail}."))
        return show(request, Problem(error.status_code, code, detail, headers=error.headers or {}))

    def parameters(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        wrong = [{"where": ".".join(map(str, each["loc"])), "what": each["msg"]} for each in error.errors()[:20]]
        sentence = "; ".join(f"{each['where']}: {each['what']}" for each in wrong[:3])
        return show(request, Problem(422, "PARAMETER_INVALID", f"{sentence}.", facts={"errors": wrong}))

    def again(request: Request, given: Exception) -> Response:
        assert isinstance(given, GivenBefore)
        return answer_again(request, given.answer)

    app.add_exception_handler(GivenBefore, again)
    app.add_exception_handler(HubError, refused)
    app.add_exception_handler(VeraError, refused)
    app.add_exception_handler(HTTPException, framework)
    app.add_exception_handler(RequestValidationError, parameters)
