"""Tokens for programs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed
from hub.access.services import Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.parameters import Search
from hub.api.responses import answer
from hub.api.schemas import NewToken
from hub.auth.policy import Action, Principal
from hub.domain import tokens
from hub.domain.views.accounts import NewTokenView, TokenView
from hub.domain.views.page import Page

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/tokens", tags=["Tokens"])

Manager = Annotated[Principal, Depends(Allowed(Action.MANAGE_TOKENS))]


@router.get("", response_model=Page[TokenView])
def list_tokens(request: Request, principal: Manager, session: Reading, organisation: Search = None) -> Response:
    """Your usable tokens, or those of an organisation you own, the newest first."""
    return answer(request, Page(tokens.tokens_of(session, principal, organisation)))


@router.post("", status_code=201, response_model=NewTokenView)
def create_token(
    request: Request,
    principal: Manager,
    body: Annotated[NewToken, Depends(JsonBody(NewToken))],
    session: Writing,
) -> Response:
    """Make a token. Its secret is in this answer and in no other."""
    if body.for_worker:
        view = tokens.create_for_worker(session, principal, body.name, expires_in_days=body.expires_in_days)
        return answer(request, view, status=201)
    view = tokens.create(
        session,
        principal,
        body.name,
        body.scopes,
        expires_in_days=body.expires_in_days,
        restricted_to=body.restricted_to,
        organisation=body.organisation,
    )
    return answer(request, view, status=201)


@router.delete("/current", status_code=204, response_class=Response)
def revoke_current_token(principal: Annotated[Principal, Depends(Allowed(Action.IDENTIFY))], session: Writing) -> None:
    """Revoke the token that this request is sent with."""
    tokens.revoke_current(session, principal)


@router.delete("/{token_id}", status_code=204, response_class=Response)
def revoke_token(principal: Manager, token_id: str, session: Writing) -> None:
    """Revoke a token, from the next request on."""
    tokens.revoke(session, principal, token_id)
