"""Versions that are taken back: deprecated, yanked, put in quarantine, deleted; and most of it undone."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from hub.access.permission import Allowed
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.conditions import IfMatch, require_unchanged
from hub.api.responses import answer
from hub.api.schemas import Deprecation, Reason
from hub.auth.policy import Action, Principal
from hub.domain import withdrawing
from hub.domain.views.versions import VersionDetail, VersionSummary
from vera.ref import AdapterRef

router = APIRouter(
    route_class=WritingRoute, prefix="/api/v1/adapters/{namespace}/{name}/versions/{selector}", tags=["Versions"]
)

Author = Annotated[Principal, Depends(Allowed(Action.YANK))]
Remover = Annotated[Principal, Depends(Allowed(Action.DELETE_VERSION))]
Admin = Annotated[Principal, Depends(Allowed(Action.QUARANTINE))]


async def addressed(namespace: str, name: str, selector: str) -> AdapterRef:
    """The version that the address names."""
    return AdapterRef(namespace, name, selector)


Addressed = Annotated[AdapterRef, Depends(addressed)]
Because = Annotated[Reason, Depends(JsonBody(Reason))]


@router.put("/yank", response_model=VersionDetail)
def yank(
    request: Request, principal: Author, ref: Addressed, *, body: Because, session: Writing, if_match: IfMatch = None
) -> Response:
    """Take a version back: who names it exactly still gets it, and nothing that moves means it."""
    require_unchanged(session, principal, ref, if_match, to=Action.YANK)
    return answer(request, withdrawing.yank(session, principal, ref, body.reason))


@router.delete("/yank", response_model=VersionDetail)
def unyank(request: Request, principal: Author, ref: Addressed, session: Writing, if_match: IfMatch = None) -> Response:
    """Undo a yank."""
    require_unchanged(session, principal, ref, if_match, to=Action.YANK)
    return answer(request, withdrawing.unyank(session, principal, ref))


@router.put("/deprecation", response_model=VersionDetail)
def deprecate(
    request: Request,
    principal: Author,
    ref: Addressed,
    *,
    body: Annotated[Deprecation, Depends(JsonBody(Deprecation))],
    session: Writing,
    if_match: IfMatch = None,
) -> Response:
    """Say that a version is not to be used any more, and what instead."""
    require_unchanged(session, principal, ref, if_match, to=Action.YANK)
    return answer(request, withdrawing.deprecate(session, principal, ref, body.message, body.replacement))


@router.delete("/deprecation", response_model=VersionDetail)
def undeprecate(
    request: Request, principal: Author, ref: Addressed, session: Writing, if_match: IfMatch = None
) -> Response:
    """Undo a deprecation."""
    require_unchanged(session, principal, ref, if_match, to=Action.YANK)
    return answer(request, withdrawing.undeprecate(session, principal, ref))


@router.put("/quarantine", response_model=VersionSummary)
def quarantine(request: Request, principal: Admin, ref: Addressed, body: Because, session: Writing) -> Response:
    """Keep a version from being given out."""
    return answer(request, withdrawing.quarantine(session, principal, ref, body.reason))


@router.delete("/quarantine", response_model=VersionDetail)
def release(request: Request, principal: Admin, ref: Addressed, session: Writing) -> Response:
    """End the quarantine of a version."""
    return answer(request, withdrawing.release(session, principal, ref))


@router.delete("", status_code=204, response_class=Response)
def delete(
    principal: Remover, ref: Addressed, reason: Annotated[str, Query(max_length=10_000)], session: Writing
) -> None:
    """Delete a version that nobody else has, within a day of its push; an admin any. Its number is never given again."""
    withdrawing.delete(session, principal, ref, reason)
