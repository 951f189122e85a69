"""Gated adapters: asking for their files, and letting in who has asked."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed, Reader
from hub.access.services import Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.parameters import Cursor, Limit
from hub.api.responses import answer, linked
from hub.api.schemas import AccessDecision, AccessWish
from hub.auth.policy import Action, Principal
from hub.domain import access
from hub.domain.views.adapters import AccessRequestView, AccessState, AccessView
from hub.domain.views.page import Page

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/adapters/{namespace}/{name}", tags=["Gated adapters"])

Asking = Annotated[Principal, Depends(Allowed(Action.REQUEST_ACCESS))]
Manager = Annotated[Principal, Depends(Allowed(Action.MANAGE_ADAPTER))]


@router.get("/access", response_model=AccessView)
def get_access(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """Whether the files of an adapter are given to you, and what became of your request."""
    return answer(request, access.describe(session, reader, namespace, name))


@router.post("/access", status_code=201, response_model=AccessRequestView)
def request_access(
    request: Request,
    principal: Asking,
    *,
    namespace: str,
    name: str,
    body: Annotated[AccessWish, Depends(JsonBody(AccessWish))],
    session: Writing,
) -> Response:
    """Ask for the files of a gated adapter. Asking twice is asking once."""
    return answer(request, access.ask(session, principal, namespace, name, body.message), status=201)


@router.get("/access-requests", response_model=Page[AccessRequestView])
def list_access_requests(
    request: Request,
    principal: Manager,
    *,
    namespace: str,
    name: str,
    session: Reading,
    state: AccessState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Who has asked for the files of an adapter, or was let in, by name."""
    page = access.list_requests(session, principal, namespace, name, state=state, cursor=cursor, limit=limit)
    return linked(answer(request, page), request, page.next)


@router.put("/access-requests/{user}", response_model=AccessRequestView)
def decide_access(
    request: Request,
    principal: Manager,
    *,
    namespace: str,
    name: str,
    user: str,
    body: Annotated[AccessDecision, Depends(JsonBody(AccessDecision))],
    session: Writing,
) -> Response:
    """Let a user in, whether they have asked or not; refuse them; or let them wait."""
    view = access.decide(session, principal, namespace, name, user=user, state=body.state, reason=body.reason)
    return answer(request, view)
