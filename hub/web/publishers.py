"""The page of a namespace's trusted publishers: which CI jobs push to it without a secret."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from hub.access.services import HubParts, Reading, Services
from hub.access.visiting import Visiting
from hub.access.writing import Writing, WritingRoute, writing_as
from hub.auth.policy import Action, Principal
from hub.domain import publishers
from hub.errors import HubError, Invalid, Unauthorized
from hub.web.pages import render
from hub.web.settings import Fields, Form
from vera.errors import VeraError

router = APIRouter(route_class=WritingRoute, prefix="/settings/publishers/{namespace}", include_in_schema=False)
page = partial(router.api_route, methods=["GET", "HEAD"])
form = partial(router.post, status_code=303, response_class=Response)

Maintainer = Annotated[Principal, Depends(Visiting(Action.MANAGE_PUBLISHERS))]

# What each field is called on the page.
_FIELDS = {
    "repository": "the repository",
    "repository_id": "the number of the repository",
    "owner_id": "the number of its owner",
    "workflow": "the file of the workflow",
    "environment": "the environment",
    "adapter": "the adapter",
}
_OPTIONAL = ("environment", "adapter")
_MAX_CHARS = dict.fromkeys(_FIELDS, 200) | {"environment": 100}


@page("")
def publishers_page(
    request: Request, principal: Maintainer, namespace: str, parts: HubParts, session: Reading
) -> Response:
    """What is trusted, in words, and the form that trusts something else."""
    return _show(request, parts, session, principal, namespace)


@form("")
def add(request: Request, principal: Maintainer, namespace: str, fields: Fields, parts: HubParts) -> Response:
    """Trusts a workflow. What was typed stays on the page when it is refused."""
    given = {name: _one(fields, name) for name in (*_FIELDS, "issuer")}
    try:
        _check(given, parts)
        with writing_as(parts, principal) as session:
            publishers.add(
                session,
                principal,
                namespace,
                adapter=given["adapter"] or None,
                issuer=given["issuer"],
                repository=given["repository"],
                repository_id=given["repository_id"],
                owner_id=given["owner_id"],
                workflow=given["workflow"],
                environment=given["environment"] or None,
            )
    except Unauthorized:
        raise
    except (HubError, VeraError) as error:
        with parts.database.reading() as session:
            return _show(request, parts, session, principal, namespace, given=given, problem=str(error))
    return RedirectResponse(f"/settings/publishers/{namespace}", 303)


@form("/{publisher_id}/remove")
def remove(principal: Maintainer, namespace: str, publisher_id: str, session: Writing) -> Response:
    """Trusts a workflow no longer."""
    publishers.remove(session, principal, namespace, publisher_id)
    return RedirectResponse(f"/settings/publishers/{namespace}", 303)


def _show(
    request: Request,
    parts: Services,
    session: Session,
    principal: Principal,
    namespace: str,
    *,
    given: dict[str, str] | None = None,
    problem: str | None = None,
) -> Response:
    return render(
        request,
        "publishers.html",
        status=422 if problem else 200,
        namespace=namespace,
        publishers=publishers.list_publishers(session, principal, namespace),
        issuers=parts.settings.oidc_issuers,
        audience=parts.settings.public_url,
        given=given or dict.fromkeys((*_FIELDS, "issuer"), ""),
        problem=problem,
    )


def _check(given: dict[str, str], parts: Services) -> None:
    """Raises Invalid, naming the field, where a form describes no publisher."""
    if given["issuer"] not in parts.settings.oidc_issuers:
        raise Invalid(f"This hub trusts no jobs of {given['issuer'][:100] or 'nobody'}: choose one of those it names.")
    for name, words in _FIELDS.items():
        if not given[name] and name not in _OPTIONAL:
            raise Invalid(f"Say {words}, too.", code="BODY_INVALID")
        if len(given[name]) > _MAX_CHARS[name]:
            raise Invalid(f"Make {words} shorter: it has at most {_MAX_CHARS[name]} characters.", code="BODY_INVALID")
    for name in ("repository_id", "owner_id"):
        if not re.fullmatch("[0-9]{1,40}", given[name]):
            raise Invalid(f"{given[name][:40]!r} is no number: {_FIELDS[name]} has only digits.", code="BODY_INVALID")


def _one(fields: Form, name: str) -> str:
    return next(iter(fields.get(name, [])), "")
