"""Gated access over this wire: who has asked, and letting them in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from hub.access.services import Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.responses import answer
from hub.auth.policy import Action, Principal
from hub.domain import access
from hub.domain.paging import MAX_LIMIT
from hub.domain.views.adapters import AccessRequestView, AccessState
from hub.errors import Malformed
from hub.hf.addresses import page_after
from hub.hf.permission import Wired
from hub.hf.schemas import AccessGrant, AccessHandling
from hub.hf.shapes import Json, moment

router = APIRouter(route_class=WritingRoute, include_in_schema=False)

Manager = Annotated[Principal, Depends(Wired(Action.MANAGE_ADAPTER))]


@router.get("/api/models/{namespace}/{name}/user-access-request/{state}")
def list_requests(
    request: Request,
    principal: Manager,
    *,
    namespace: str,
    name: str,
    state: AccessState,
    session: Reading,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
) -> Response:
    """Who waits, was let in or was refused."""
    page = access.list_requests(session, principal, namespace, name, state=state, cursor=cursor, limit=MAX_LIMIT)
    shown = answer(request, [_request(each) for each in page.items])
    if page.next is not None:
        shown.headers["Link"] = page_after(request, page.next)
    return shown


@router.post("/api/models/{namespace}/{name}/user-access-request/handle")
def handle(
    request: Request,
    principal: Manager,
    *,
    namespace: str,
    name: str,
    body: Annotated[AccessHandling, Depends(JsonBody(AccessHandling))],
    session: Writing,
) -> Response:
    """Let in or refuse who has asked, or let them wait again."""
    user = body.user or body.requestId
    if user is None:
        raise Malformed("Say who it is about: user, or requestId.")
    view = access.decide(
        session,
        principal,
        namespace,
        name,
        user=user,
        state=body.status,
        reason=body.rejectionReason,
        must_have_asked=True,
    )
    return answer(request, _request(view))


@router.post("/api/models/{namespace}/{name}/user-access-request/grant")
def grant(
    request: Request,
    principal: Manager,
    *,
    namespace: str,
    name: str,
    body: Annotated[AccessGrant, Depends(JsonBody(AccessGrant))],
    session: Writing,
) -> Response:
    """Let in who has not asked."""
    view = access.decide(session, principal, namespace, name, user=body.user, state="accepted")
    return answer(request, _request(view))


@router.post("/{namespace}/{name}/ask-access")
def ask(
    request: Request,
    *,
    principal: Annotated[Principal, Depends(Wired(Action.REQUEST_ACCESS))],
    namespace: str,
    name: str,
    session: Writing,
) -> Response:
    """Ask for the files, as the form of their pages does."""
    return answer(request, _request(access.ask(session, principal, namespace, name, None)))


def _request(found: AccessRequestView) -> Json:
    """A user asks once for an adapter, so that their name is the name of the request."""
    shown: Json = {
        "requestId": found.user,
        "user": {"_id": found.user, "user": found.user, "fullname": found.user},
        "status": found.state,
        "timestamp": moment(found.created_at),
    }
    return {**shown, "fields": {"message": found.message}} if found.message else shown
