"""The record of changes, for those whom it concerns."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from hub.access.permission import Allowed
from hub.access.services import Reading
from hub.api.parameters import Cursor, Limit
from hub.api.responses import answer
from hub.auth.policy import Action, Principal
from hub.domain import audit
from hub.domain.views.page import Page
from hub.domain.views.record import AuditEventView

router = APIRouter(prefix="/api/v1", tags=["The record"])

Auditor = Annotated[Principal, Depends(Allowed(Action.READ_AUDIT))]
HubAuditor = Annotated[Principal, Depends(Allowed(Action.READ_HUB_AUDIT))]
AdapterName = Annotated[str | None, Query(max_length=64, description="The name of one adapter in the namespace.")]


@router.get("/namespaces/{namespace}/audit", response_model=Page[AuditEventView])
def read_namespace(
    request: Request,
    principal: Auditor,
    *,
    namespace: str,
    session: Reading,
    adapter: AdapterName = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Who has changed what in a namespace, the newest first."""
    found = audit.read_namespace(session, principal, namespace, adapter=adapter, cursor=cursor, limit=limit)
    return answer(request, found)


@router.get("/audit", response_model=Page[AuditEventView])
def read_hub(
    request: Request, principal: HubAuditor, *, session: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    """Who has changed what that concerns no single namespace: users and bases. The newest first."""
    return answer(request, audit.read_hub(session, principal, cursor=cursor, limit=limit))
