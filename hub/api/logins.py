"""From a code or a password to a token."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed
from hub.access.services import HubParts
from hub.access.signing_in import check_password
from hub.access.writing import writing_as
from hub.api.bodies import JsonBody
from hub.api.responses import answer
from hub.api.schemas import CodeLogin, PasswordChange, PasswordLogin
from hub.auth import passwords
from hub.auth.policy import Action, Principal, Scope
from hub.domain import users
from hub.domain.views.accounts import LoginView

router = APIRouter(prefix="/api/v1", tags=["Signing in"])


@router.post("/login", status_code=201, response_model=LoginView)
def login_with_code(
    request: Request,
    principal: Annotated[Principal, Depends(Allowed(Action.USE_CODE))],
    body: Annotated[CodeLogin, Depends(JsonBody(CodeLogin))],
    parts: HubParts,
) -> Response:
    """Sign in with a code, which is the token of this request, and set a password if you like."""
    password_hash = None if body.password is None else passwords.hash_of(body.password)
    with parts.database.writing() as session:
        login = users.use_code(session, principal, body.user, password_hash)
    if Scope.ADMIN in principal.scopes:
        with suppress(OSError):  # it is good for nothing now
            parts.settings.bootstrap_token_file.unlink(missing_ok=True)
    return answer(request, login, status=201)


@router.post(
    "/login/password",
    status_code=201,
    response_model=LoginView,
    dependencies=[Depends(Allowed(Action.SIGN_IN))],
)
def login_with_password(
    request: Request, body: Annotated[PasswordLogin, Depends(JsonBody(PasswordLogin))], parts: HubParts
) -> Response:
    """Sign in with a name and a password."""
    check_password(parts, request, body.user, body.password)
    with parts.database.writing() as session:
        return answer(request, users.sign_in(session, body.user), status=201)


@router.put("/password", status_code=204, response_class=Response)
def set_password(
    request: Request,
    principal: Annotated[Principal, Depends(Allowed(Action.SET_PASSWORD))],
    body: Annotated[PasswordChange, Depends(JsonBody(PasswordChange))],
    parts: HubParts,
) -> None:
    """Set your password, or change it by saying the old one."""
    with parts.database.reading() as session:
        has_one = users.password_hash_of(session, principal.name) is not None
    if has_one:
        check_password(parts, request, principal.name, body.old or "")
    password_hash = passwords.hash_of(body.new)
    with writing_as(parts, principal) as session:
        users.set_password(session, principal, password_hash)
