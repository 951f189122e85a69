"""Is the hub there, and who am I to it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

import vera
from hub.access.permission import Allowed, ReadOnly
from hub.access.services import Services, services
from hub.api.responses import answer
from hub.api.schemas import Health
from hub.auth.policy import Action, Principal
from hub.domain import accounts
from hub.domain.views.accounts import PrincipalView

router = APIRouter(tags=["Service"])


@router.get("/healthz", response_model=Health, dependencies=[ReadOnly])
def healthz(
    request: Request,
    parts: Annotated[Services, Depends(services)],
    ready: Annotated[bool, Query(description="Ask the database, too: 503 while it does not answer.")] = False,
) -> Response:
    """Whether the hub is there, and, if that is asked, whether it can answer anything else."""
    if ready:
        parts.database.require_answer()
    return answer(request, Health(status="ok", version=vera.__version__))


@router.get("/api/v1/whoami", response_model=PrincipalView)
def whoami(request: Request, principal: Annotated[Principal, Depends(Allowed(Action.IDENTIFY))]) -> Response:
    """Who the token that was sent speaks for."""
    return answer(request, accounts.describe(principal))
