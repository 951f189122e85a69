"""The page of a gated adapter: where somebody asks for its files, and where its maintainers let them in."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from hub.access.services import Reading
from hub.access.visiting import Visiting
from hub.access.writing import Writing, WritingRoute
from hub.auth.policy import Action, Principal, Role, Scope
from hub.domain import access, catalog
from hub.domain.shaping import adapter_view
from hub.domain.views.adapters import AccessState, Gate
from hub.web.pages import render
from hub.web.settings import Fields

router = APIRouter(route_class=WritingRoute, prefix="/{namespace}/{name}/access", include_in_schema=False)
page = partial(router.api_route, methods=["GET", "HEAD"])
form = partial(router.post, status_code=303, response_class=Response)

Visitor = Annotated[Principal | None, Depends(Visiting(Action.READ))]
Asking = Annotated[Principal, Depends(Visiting(Action.REQUEST_ACCESS))]
Manager = Annotated[Principal, Depends(Visiting(Action.MANAGE_ADAPTER))]
_GATES: dict[str, Gate | None] = {"auto": "auto", "manual": "manual", "no": None}
_STATES: dict[str, AccessState] = {"accept": "accepted", "reject": "rejected", "cancel": "pending"}


@page("")
def access_page(
    request: Request,
    reader: Visitor,
    *,
    namespace: str,
    name: str,
    session: Reading,
    cursor: Annotated[str, Query(max_length=600)] = "",
) -> Response:
    """Whether one gets the files, the form to ask for them, and for maintainers who has asked."""
    adapter = catalog.find_adapter(session, reader, namespace, name)
    is_maintainer = _may_manage(reader, namespace)
    found = None
    if reader is not None and is_maintainer:
        found = access.list_requests(session, reader, namespace, name, cursor=cursor or None)
    return render(
        request,
        "access.html",
        adapter=adapter_view(adapter),
        mine=access.describe(session, reader, namespace, name),
        requests=found.items if found else None,
        next=found.next if found else None,
    )


@form("/ask")
def ask(principal: Asking, *, namespace: str, name: str, fields: Fields, session: Writing) -> Response:
    """Asks for the files."""
    access.ask(session, principal, namespace, name, _one(fields, "message")[:1000] or None)
    return _back(namespace, name)


@form("/gate")
def set_gate(principal: Manager, *, namespace: str, name: str, fields: Fields, session: Writing) -> Response:
    """Gates the adapter, or opens it."""
    chosen = _one(fields, "gate")
    if chosen not in _GATES:
        raise HTTPException(422, "There is no such gate")
    access.set_gate(session, principal, namespace, name, _GATES[chosen])
    return _back(namespace, name)


@form("/let-in")
def let_in(principal: Manager, *, namespace: str, name: str, fields: Fields, session: Writing) -> Response:
    """Lets in who has not asked."""
    access.decide(session, principal, namespace, name, user=_one(fields, "user"), state="accepted")
    return _back(namespace, name)


@form("/{user}/{answer}")
def decide(
    principal: Manager, *, namespace: str, name: str, user: str, answer: str, fields: Fields, session: Writing
) -> Response:
    """Lets somebody in, refuses them, or lets them wait."""
    if answer not in _STATES:
        raise HTTPException(404)
    reason = _one(fields, "reason")[:1000] or None
    access.decide(session, principal, namespace, name, user=user, state=_STATES[answer], reason=reason)
    return _back(namespace, name)


def _may_manage(reader: Principal | None, namespace: str) -> bool:
    role = reader.role_in(namespace) if reader else None
    return reader is not None and role is not None and role.covers(Role.MAINTAINER) and Scope.MANAGE in reader.scopes


def _back(namespace: str, name: str) -> RedirectResponse:
    return RedirectResponse(f"/{namespace}/{name}/access", 303)


def _one(fields: dict[str, list[str]], name: str) -> str:
    return next(iter(fields.get(name, [])), "")
