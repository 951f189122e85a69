"""Base models."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.limits import NEW_BASES, count
from hub.access.permission import Allowed, Reader
from hub.access.services import HubParts, Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.parameters import Cursor, Limit, Search
from hub.api.responses import answer
from hub.api.schemas import BaseRegistration
from hub.auth.policy import Action, Principal
from hub.domain import bases
from hub.domain.views.bases import BaseDetail, BaseView
from hub.domain.views.page import Page

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/bases", tags=["Bases"])


@router.post("", status_code=201, response_model=BaseView, responses={200: {"model": BaseView}})
def register_base(
    request: Request,
    principal: Annotated[Principal, Depends(Allowed(Action.REGISTER_BASE))],
    body: Annotated[BaseRegistration, Depends(JsonBody(BaseRegistration, "table"))],
    parts: HubParts,
    session: Writing,
) -> Response:
    """Register a base by its tensor table. 200 when it is known."""
    most = parts.settings.max_account_bases
    view, is_new = bases.register_base(session, principal, body.name, body.revision, body.tensors, most=most)
    if is_new and parts.settings.has_rate_limits:
        count(request, parts.buckets, NEW_BASES, str(principal.account_id))
    return answer(request, view, status=201 if is_new else 200)


@router.get("", response_model=Page[BaseView])
def list_bases(
    request: Request, reader: Reader, session: Reading, *, name: Search = None, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    """Bases by name."""
    return answer(request, bases.list_bases(session, reader, name=name, cursor=cursor, limit=limit))


@router.get("/{fingerprint}", response_model=BaseDetail)
def get_base(request: Request, reader: Reader, fingerprint: str, session: Reading) -> Response:
    """A base and its tensor table."""
    return answer(request, bases.get_base(session, reader, fingerprint))
