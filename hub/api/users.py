"""Users, for admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed
from hub.access.services import Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.parameters import Cursor, Limit
from hub.api.responses import answer
from hub.api.schemas import NewUser, UserChange
from hub.auth.policy import Action, Principal
from hub.domain import users
from hub.domain.views.accounts import CodeView, UserView
from hub.domain.views.page import Page

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/users", tags=["Users"])

Admin = Annotated[Principal, Depends(Allowed(Action.MANAGE_USERS))]


@router.get("", response_model=Page[UserView])
def list_users(
    request: Request, principal: Admin, session: Reading, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    """Users by name."""
    return answer(request, users.list_users(session, principal, cursor=cursor, limit=limit))


@router.post("", status_code=201, response_model=CodeView)
def create_user(
    request: Request, principal: Admin, body: Annotated[NewUser, Depends(JsonBody(NewUser))], session: Writing
) -> Response:
    """Make a user. The answer holds the code with which they sign in, once."""
    return answer(request, users.create(session, principal, body.name, is_admin=body.is_admin), status=201)


@router.patch("/{user}", response_model=UserView)
def change_user(
    request: Request,
    principal: Admin,
    user: str,
    body: Annotated[UserChange, Depends(JsonBody(UserChange))],
    session: Writing,
) -> Response:
    """Make a user an admin, or no longer one."""
    return answer(request, users.set_admin(session, principal, user, is_admin=body.is_admin))


@router.post("/{user}/codes", status_code=201, response_model=CodeView)
def create_code(request: Request, principal: Admin, user: str, session: Writing) -> Response:
    """Another code for a user who cannot sign in any more."""
    return answer(request, users.new_code(session, principal, user), status=201)


@router.delete("/{user}", status_code=204, response_class=Response)
def delete_user(principal: Admin, user: str, session: Writing) -> None:
    """End an account. Its name is never given again."""
    users.delete(session, principal, user)
