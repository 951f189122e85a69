"""The pages of somebody who has signed in: their tokens, their organisations. Each form is sent as a page is, and
does what the API does."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from hub.access.receiving import chunks
from hub.access.services import HubParts, Reading, Services, services
from hub.access.signing_in import check_password
from hub.access.visiting import Visiting, clear_session, own_path, set_session
from hub.access.writing import Writing, WritingRoute, writing_as
from hub.auth.policy import LOGIN_SCOPES, Action, Principal, Role, Scope
from hub.domain import accounts, audit, organisations, tokens, users
from hub.domain.views.accounts import LoginView, NewTokenView
from hub.errors import Forbidden, HubError, Malformed
from hub.web.pages import render

MAX_FORM_BYTES = 16 * 1024
_MAX_FIELDS = 50
# What a token made here can be given, in words.
SCOPES = {
    Scope.READ: "See private adapters",
    Scope.PUSH: "Push new versions",
    Scope.SUBMIT: "Ask for evaluations",
    Scope.MANAGE: "Change who sees an adapter",
}

router = APIRouter(route_class=WritingRoute, include_in_schema=False)
page = partial(router.api_route, methods=["GET", "HEAD"])
form = partial(router.post, status_code=303, response_class=Response)

Form = dict[str, list[str]]


async def read_form(request: Request, parts: Annotated[Services, Depends(services)]) -> Form:
    """The fields of a form. Name it after the one that says who may send it."""
    body = b"".join([chunk async for chunk in chunks(request, MAX_FORM_BYTES, parts.intake)])
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise Malformed("The form cannot be read: send it from its page.", code="BODY_INVALID") from error
    fields: Form = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value.strip())
    if any("\0" in value for values in fields.values() for value in values):
        raise Malformed("The form holds a NUL character: leave it out.", code="BODY_INVALID")
    return fields


def may(action: Action) -> Visiting:
    return Visiting(action)


Fields = Annotated[Form, Depends(read_form)]
Anyone = Annotated[Principal | None, Depends(may(Action.SIGN_IN))]
Known = Annotated[Principal, Depends(may(Action.IDENTIFY))]
TokenKeeper = Annotated[Principal, Depends(may(Action.MANAGE_TOKENS))]
Invited = Annotated[Principal, Depends(may(Action.ANSWER_INVITATION))]
Founder = Annotated[Principal, Depends(may(Action.CREATE_ORGANISATION))]
Insider = Annotated[Principal, Depends(may(Action.READ_ORGANISATION))]
Owner = Annotated[Principal, Depends(may(Action.MANAGE_ORGANISATION))]
Auditor = Annotated[Principal, Depends(may(Action.READ_AUDIT))]
Leaver = Annotated[Principal, Depends(may(Action.LEAVE_ORGANISATION))]


@page("/signin")
def signin_page(request: Request, visitor: Anyone, onward: Annotated[str, Query(alias="next")] = "/") -> Response:
    """Where one signs in."""
    if visitor is not None:
        return RedirectResponse(own_path(onward), 303)
    return render(request, "signin.html", onward=own_path(onward), problem=None)


@form("/signin")
async def sign_in(request: Request, _: Anyone, fields: Fields, parts: HubParts) -> Response:
    """Signs in with a password, or with a token or a code from `vera-hub`."""
    onward = own_path(_one(fields, "next") or "/")
    try:
        login = await run_in_threadpool(_open_session, request, parts, fields)
    except HubError as error:
        return render(request, "signin.html", status=401, onward=onward, problem=str(error))
    response = RedirectResponse(onward, 303)
    set_session(response, parts.settings, login.token)
    return response


@form("/logout")
def sign_out(principal: Known, parts: HubParts) -> Response:
    """Ends the session, here and at the hub."""
    with parts.database.writing() as session:
        tokens.revoke_current(session, principal)
    response = RedirectResponse("/", 303)
    clear_session(response, parts.settings)
    return response


@page("/settings")
def settings_page(request: Request, principal: Known, session: Reading) -> Response:
    """Who one is, with which tokens and in which organisations."""
    return _settings(request, principal, session)


@form("/settings/tokens")
def create_token(request: Request, principal: TokenKeeper, fields: Fields, parts: HubParts) -> Response:
    """Makes a token and shows it, this once."""
    with writing_as(parts, principal) as session:
        made = tokens.create(
            session,
            principal,
            _one(fields, "name")[:100] or "unnamed",
            fields.get("scope", []),
            expires_in_days=_days(fields),
            restricted_to=_one(fields, "only").replace(",", " ").split() or None,
        )
    with parts.database.reading() as session:
        return _settings(request, principal, session, made=made)


@form("/settings/tokens/{token_id}/revoke")
def revoke_token(principal: TokenKeeper, token_id: str, session: Writing) -> Response:
    """Revokes a token."""
    tokens.revoke(session, principal, token_id)
    return RedirectResponse("/settings", 303)


@form("/settings/organisations")
def create_organisation(principal: Founder, fields: Fields, session: Writing) -> Response:
    """Founds an organisation."""
    made = organisations.create(session, principal, _one(fields, "name"))
    return RedirectResponse(f"/settings/organisations/{made.name}", 303)


@form("/settings/invitations/{organisation}/accept")
def accept(principal: Invited, organisation: str, session: Writing) -> Response:
    """Joins an organisation."""
    joined = organisations.accept(session, principal, organisation)
    return RedirectResponse(f"/settings/organisations/{joined.name}", 303)


@form("/settings/invitations/{organisation}/decline")
def decline(principal: Invited, organisation: str, session: Writing) -> Response:
    """Says no to an invitation."""
    organisations.decline(session, principal, organisation)
    return RedirectResponse("/settings", 303)


@page("/settings/organisations/{namespace}")
def organisation_page(request: Request, principal: Insider, namespace: str, session: Reading) -> Response:
    """Who is in an organisation, and as what."""
    role = principal.role_in(namespace)
    is_owner = role is Role.OWNER
    return render(
        request,
        "organisation.html",
        organisation=organisations.get(session, principal, namespace),
        members=organisations.members(session, principal, namespace),
        invitations=organisations.invitations_of(session, principal, namespace) if is_owner else (),
        is_owner=is_owner,
        is_maintainer=role is not None and role.covers(Role.MAINTAINER),
        roles=[role.value for role in Role],
    )


@page("/settings/audit/{namespace}")
def audit_page(
    request: Request,
    principal: Auditor,
    namespace: str,
    session: Reading,
    cursor: Annotated[str, Query(max_length=600)] = "",
) -> Response:
    """Who has changed what in a namespace."""
    found = audit.read_namespace(session, principal, namespace, cursor=cursor or None)
    onward = found.next and f"/settings/audit/{namespace}?{urlencode({'cursor': found.next})}"
    return render(request, "audit.html", namespace=namespace, events=found.items, next=onward)


@form("/settings/organisations/{namespace}/invite")
def invite(principal: Owner, namespace: str, fields: Fields, session: Writing) -> Response:
    """Invites a user."""
    organisations.invite(session, principal, namespace, _one(fields, "user"), _role(fields))
    return RedirectResponse(f"/settings/organisations/{namespace}", 303)


@form("/settings/organisations/{namespace}/members/{user}/role")
def change_role(principal: Owner, namespace: str, user: str, fields: Fields, session: Writing) -> Response:
    """Gives a member another role."""
    organisations.change_role(session, principal, namespace, user, _role(fields))
    return RedirectResponse(f"/settings/organisations/{namespace}", 303)


@form("/settings/organisations/{namespace}/members/{user}/remove")
def remove_member(principal: Leaver, namespace: str, user: str, session: Writing) -> Response:
    """Takes a member out."""
    organisations.remove_member(session, principal, namespace, user)
    onward = "/settings" if user == principal.name else f"/settings/organisations/{namespace}"
    return RedirectResponse(onward, 303)


@form("/settings/organisations/{namespace}/invitations/{user}/withdraw")
def withdraw(principal: Owner, namespace: str, user: str, session: Writing) -> Response:
    """Takes an invitation back."""
    organisations.withdraw(session, principal, namespace, user)
    return RedirectResponse(f"/settings/organisations/{namespace}", 303)


def _settings(
    request: Request, principal: Principal, session: Session, *, made: NewTokenView | None = None
) -> Response:
    return render(
        request,
        "settings.html",
        tokens=tokens.tokens_of(session, principal),
        organisations=organisations.mine(session, principal),
        invitations=organisations.invitations_to(session, principal),
        scopes=SCOPES,
        made=made,
    )


def _open_session(request: Request, parts: Services, fields: Form) -> LoginView:
    user, password, secret = (_one(fields, name) for name in ("user", "password", "token"))
    if not secret:
        check_password(parts, request, user, password)
        with parts.database.writing() as session:
            return users.open_session(session, user)
    with parts.database.writing() as session:
        principal = accounts.authenticate(session, secret).principal
        if principal.kind == "code":
            return users.open_session(session, users.use_code(session, principal, user or None, None).user)
        if principal.kind != "user" or not principal.scopes.issuperset(LOGIN_SCOPES) or principal.restricted_to:
            raise Forbidden("That token is for a program: sign in with the one that `vera-hub login` saved.")
        return users.open_session(session, principal.name)


def _one(fields: Form, name: str) -> str:
    return next(iter(fields.get(name, [])), "")


def _days(fields: Form) -> int:
    text = _one(fields, "days")
    if text.isdecimal() and len(text) < 4 and 1 <= int(text) <= tokens.MAX_DAYS:
        return int(text)
    raise Malformed(f"A token lasts 1 to {tokens.MAX_DAYS} days: choose again.", code="BODY_INVALID")


def _role(fields: Form) -> Role:
    try:
        return Role(_one(fields, "role"))
    except ValueError as error:
        raise HTTPException(422, "There is no such role") from error
