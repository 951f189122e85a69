"""Organisations, their members, and invitations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed, Reader
from hub.access.services import Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.responses import answer
from hub.api.schemas import InvitationRequest, NewOrganisation, RoleChange
from hub.auth.policy import Action, Principal, Role
from hub.domain import organisations
from hub.domain.views.accounts import InvitationView, MemberView, OrganisationView
from hub.domain.views.page import Page

router = APIRouter(route_class=WritingRoute, prefix="/api/v1", tags=["Organisations"])

Known = Annotated[Principal, Depends(Allowed(Action.IDENTIFY))]
Founder = Annotated[Principal, Depends(Allowed(Action.CREATE_ORGANISATION))]
Insider = Annotated[Principal, Depends(Allowed(Action.READ_ORGANISATION))]
Owner = Annotated[Principal, Depends(Allowed(Action.MANAGE_ORGANISATION))]
Leaver = Annotated[Principal, Depends(Allowed(Action.LEAVE_ORGANISATION))]
Invited = Annotated[Principal, Depends(Allowed(Action.ANSWER_INVITATION))]


@router.post("/orgs", status_code=201, response_model=OrganisationView)
def create(
    request: Request,
    principal: Founder,
    body: Annotated[NewOrganisation, Depends(JsonBody(NewOrganisation))],
    session: Writing,
) -> Response:
    """Found an organisation, and own it."""
    return answer(request, organisations.create(session, principal, body.name), status=201)


@router.get("/orgs", response_model=Page[OrganisationView])
def list_mine(request: Request, principal: Known, session: Reading) -> Response:
    """The organisations that you are in."""
    return answer(request, Page(organisations.mine(session, principal)))


@router.get("/orgs/{namespace}", response_model=OrganisationView)
def get(request: Request, reader: Reader, namespace: str, session: Reading) -> Response:
    """An organisation, and your role in it."""
    return answer(request, organisations.get(session, reader, namespace))


@router.delete("/orgs/{namespace}", status_code=204, response_class=Response)
def delete(principal: Owner, namespace: str, session: Writing) -> None:
    """End an organisation that has no adapters. Its name is never given again."""
    organisations.delete(session, principal, namespace)


@router.get("/orgs/{namespace}/members", response_model=Page[MemberView])
def list_members(request: Request, principal: Insider, namespace: str, session: Reading) -> Response:
    """Who is in it, and as what."""
    return answer(request, Page(organisations.members(session, principal, namespace)))


@router.put("/orgs/{namespace}/members/{user}", response_model=MemberView)
def change_role(
    request: Request,
    *,
    principal: Owner,
    namespace: str,
    user: str,
    body: Annotated[RoleChange, Depends(JsonBody(RoleChange))],
    session: Writing,
) -> Response:
    """Give a member another role."""
    return answer(request, organisations.change_role(session, principal, namespace, user, Role(body.role)))


@router.delete("/orgs/{namespace}/members/{user}", status_code=204, response_class=Response)
def remove_member(principal: Leaver, namespace: str, user: str, session: Writing) -> None:
    """Take a member out; yourself, to leave."""
    organisations.remove_member(session, principal, namespace, user)


@router.get("/orgs/{namespace}/invitations", response_model=Page[InvitationView])
def list_invitations(request: Request, principal: Owner, namespace: str, session: Reading) -> Response:
    """The invitations that nobody has answered yet."""
    return answer(request, Page(organisations.invitations_of(session, principal, namespace)))


@router.post("/orgs/{namespace}/invitations", status_code=201, response_model=InvitationView)
def invite(
    request: Request,
    principal: Owner,
    namespace: str,
    body: Annotated[InvitationRequest, Depends(JsonBody(InvitationRequest))],
    session: Writing,
) -> Response:
    """Invite a user. An earlier invitation to them is replaced."""
    view = organisations.invite(session, principal, namespace, body.user, Role(body.role))
    return answer(request, view, status=201)


@router.delete("/orgs/{namespace}/invitations/{user}", status_code=204, response_class=Response)
def withdraw(principal: Owner, namespace: str, user: str, session: Writing) -> None:
    """Take an invitation back."""
    organisations.withdraw(session, principal, namespace, user)


@router.get("/invitations", response_model=Page[InvitationView])
def list_my_invitations(request: Request, principal: Known, session: Reading) -> Response:
    """What you are invited to."""
    return answer(request, Page(organisations.invitations_to(session, principal)))


@router.post("/invitations/{organisation}/accept", response_model=OrganisationView)
def accept(request: Request, principal: Invited, organisation: str, session: Writing) -> Response:
    """Join the organisation that invited you."""
    return answer(request, organisations.accept(session, principal, organisation))


@router.post("/invitations/{organisation}/decline", status_code=204, response_class=Response)
def decline(principal: Invited, organisation: str, session: Writing) -> None:
    """Say no to an invitation."""
    organisations.decline(session, principal, organisation)
