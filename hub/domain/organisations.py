"""Organisations: who is what in them, and how one becomes it.

Nobody is added to anything without saying yes: an owner invites, the invited accepts. Changes of the
members of one organisation come one after another, so that two owners cannot both be the last but one to go.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, Role, authorize, viewer_of
from hub.db import session as db
from hub.db.models.accounts import Account, Invitation, Membership
from hub.db.queries import accounts, adapters
from hub.db.queries import tokens as token_rows
from hub.domain.audit import Change, record
from hub.domain.views.accounts import InvitationView, MemberView, OrganisationView
from hub.errors import Conflict, Forbidden, NotFound
from vera.ref import check_namespace

INVITATION_LIFETIME = timedelta(days=7)


def create(session: Session, principal: Principal, name: str) -> OrganisationView:
    """A new organisation, owned by `principal`. Raises RefError for an impossible name, Conflict for a taken one."""
    require_user(principal)
    check_namespace(name)
    at = db.now(session)
    organisation = accounts.create(session, name, "organisation", at=at)
    if organisation is None:
        raise name_taken(name)
    accounts.add_member(session, organisation.id, principal.account_id, Role.OWNER, at=at)
    record(session, principal, Change.ORGANISATION_CREATED, name)
    return _view(organisation, Role.OWNER)


def mine(session: Session, principal: Principal) -> tuple[OrganisationView, ...]:
    """The organisations that `principal` is in."""
    found = [accounts.find(session, grant.namespace, "organisation") for grant in principal.grants]
    return tuple(_view(each, principal.role_in(each.name)) for each in found if each is not None)


def get(session: Session, reader: Principal | None, name: str) -> OrganisationView:
    """Raises NotFound, also for a copy of which `reader` sees no adapter: that one was fetched is known to who did."""
    organisation = _find(session, name)
    if organisation.mirrored_from is not None and not adapters.has_visible(session, viewer_of(reader), organisation.id):
        raise _unknown(name)
    return _view(organisation, reader.role_in(name) if reader else None)


def delete(session: Session, principal: Principal, name: str) -> None:
    """Ends the organisation; nobody can ever take its name. Raises Conflict while it has adapters."""
    authorize(principal, Action.MANAGE_ORGANISATION, Resource(name))
    organisation, at = _find(session, name), db.now(session)
    accounts.hold(session, organisation.id)
    if accounts.has_adapters(session, organisation.id):
        raise Conflict(
            f"{name} still has adapters, which others may rely on: an organisation is deleted when it is empty.",
            code="ORGANISATION_NOT_EMPTY",
            organisation=name,
        )
    organisation.deleted_at = at
    accounts.remove_members(session, organisation.id)
    token_rows.revoke_all(session, organisation.id, at=at)
    record(session, principal, Change.ORGANISATION_DELETED, name)


# -- Members --------------------------------------------------------------------------------------


def members(session: Session, principal: Principal, name: str) -> tuple[MemberView, ...]:
    """Everybody in the organisation, by name."""
    authorize(principal, Action.READ_ORGANISATION, Resource(name))
    return tuple(_member_view(each) for each in accounts.members(session, _find(session, name).id))


def change_role(session: Session, principal: Principal, name: str, user: str, role: Role) -> MemberView:
    """Gives a member another role. Raises NotFound for who is none, Conflict for the last owner."""
    authorize(principal, Action.MANAGE_ORGANISATION, Resource(name))
    organisation = _find(session, name)
    accounts.hold(session, organisation.id)
    membership, member = _member(session, organisation, user)
    if membership.role == Role.OWNER and role is not Role.OWNER:
        _require_another_owner(session, organisation, user)
    before = membership.role
    accounts.set_role(session, organisation.id, member.id, role)
    facts = {"user": member.name, "from": before, "to": role.value}
    record(session, principal, Change.MEMBER_ROLE_CHANGED, name, facts)
    return MemberView(user=member.name, role=role.value, since=membership.created_at)


def remove_member(session: Session, principal: Principal, name: str, user: str) -> None:
    """Takes a member out: an owner anybody, everybody themself. Raises NotFound, Conflict and Forbidden."""
    is_leaving = user == principal.name
    authorize(principal, Action.LEAVE_ORGANISATION if is_leaving else Action.MANAGE_ORGANISATION, Resource(name))
    organisation = _find(session, name)
    accounts.hold(session, organisation.id)
    membership, member = _member(session, organisation, user)
    if membership.role == Role.OWNER:
        _require_another_owner(session, organisation, user)
    facts = {"user": member.name, "role": membership.role}
    accounts.remove_member(session, organisation.id, member.id)
    record(session, principal, Change.MEMBER_REMOVED, name, facts)


# -- Invitations ----------------------------------------------------------------------------------


def invite(session: Session, principal: Principal, name: str, user: str, role: Role) -> InvitationView:
    """Asks a user to join, in the place of an earlier invitation. Raises NotFound, and Conflict for a member."""
    authorize(principal, Action.MANAGE_ORGANISATION, Resource(name))
    organisation, at = _find(session, name), db.now(session)
    accounts.hold(session, organisation.id)  # two invitations of one user come one after another
    invited = accounts.find(session, user, "user")
    if invited is None:
        raise NotFound(f"There is no user {user[:64]} here: check the name.", code="USER_UNKNOWN", user=user[:64])
    if accounts.member(session, organisation.id, invited.id) is not None:
        raise Conflict(
            f"{user} is in {name} already: change the role with `vera-hub org role {name} {user} ROLE`.",
            code="MEMBER_ALREADY",
            user=user,
        )
    accounts.invite(
        session,
        organisation_id=organisation.id,
        user_id=invited.id,
        role=role,
        by_id=principal.account_id,
        at=at,
        expires_at=at + INVITATION_LIFETIME,
    )
    record(session, principal, Change.INVITATION_MADE, name, {"user": invited.name, "role": role.value})
    return _invitation_view(_invitation(session, organisation.id, invited.id, name))


def invitations_of(session: Session, principal: Principal, name: str) -> tuple[InvitationView, ...]:
    """Those that nobody has answered yet, the earliest first."""
    authorize(principal, Action.MANAGE_ORGANISATION, Resource(name))
    return _views(accounts.invitations_of(session, _find(session, name).id, at=db.now(session)))


def withdraw(session: Session, principal: Principal, name: str, user: str) -> None:
    """Takes an invitation back. Raises NotFound when there is none."""
    authorize(principal, Action.MANAGE_ORGANISATION, Resource(name))
    invited = accounts.find(session, user, "user")
    if invited is None or not accounts.withdraw(session, _find(session, name).id, invited.id):
        raise _no_invitation(name)
    record(session, principal, Change.INVITATION_WITHDRAWN, name, {"user": invited.name})


def invitations_to(session: Session, principal: Principal) -> tuple[InvitationView, ...]:
    """What `principal` is invited to, the earliest first."""
    return _views(accounts.invitations_to(session, principal.account_id, at=db.now(session)))


def accept(session: Session, principal: Principal, name: str) -> OrganisationView:
    """Joins the organisation. Raises NotFound when `principal` is not invited, or was too long ago."""
    require_user(principal)
    organisation = accounts.find(session, name, "organisation")
    if organisation is None:
        raise _no_invitation(name)
    accounts.hold(session, principal.account_id)  # who is being deleted joins nothing
    accounts.hold(session, organisation.id)
    invitation = _invitation(session, organisation.id, principal.account_id, name)
    role = Role(invitation.role)
    accounts.withdraw(session, organisation.id, principal.account_id)
    accounts.add_member(session, organisation.id, principal.account_id, role, at=db.now(session))
    record(session, principal, Change.MEMBER_JOINED, name, {"user": principal.name, "role": role.value})
    return _view(organisation, role)


def decline(session: Session, principal: Principal, name: str) -> None:
    """Raises NotFound when `principal` is not invited."""
    require_user(principal)
    organisation = accounts.find(session, name, "organisation")
    if organisation is None or not accounts.withdraw(session, organisation.id, principal.account_id):
        raise _no_invitation(name)
    record(session, principal, Change.INVITATION_DECLINED, name, {"user": principal.name})


def require_user(principal: Principal) -> None:
    """Raises Forbidden for a token that is nobody's own, an organisation's or a worker's, and for one that is for certain
    names: what a user does beyond those is not for it."""
    if principal.kind != "user":
        raise Forbidden(
            f"This token is {principal.name}'s, for programs: sign in as a user for that.", code="USER_NEEDED"
        )
    if principal.restricted_to is not None:
        raise Forbidden(
            f"This token is restricted to {', '.join(sorted(principal.restricted_to))}: sign in for that.",
            code="TOKEN_RESTRICTED",
        )


def name_taken(name: str) -> Conflict:
    return Conflict(
        f"The name {name} is taken, or was: names are never given twice. Choose another.", code="NAME_TAKEN", name=name
    )


def _find(session: Session, name: str) -> Account:
    organisation = accounts.find(session, name, "organisation")
    if organisation is None:
        raise _unknown(name)
    return organisation


def _unknown(name: str) -> NotFound:
    return NotFound(
        f"There is no organisation {name[:64]} here: `vera-hub org list` shows yours.",
        code="ORGANISATION_UNKNOWN",
        organisation=name[:64],
    )


def _member(session: Session, organisation: Account, user: str) -> tuple[Membership, Account]:
    account = accounts.find(session, user, "user")
    membership = accounts.member(session, organisation.id, account.id) if account else None
    if account is None or membership is None:
        raise NotFound(
            f"{user[:64]} is not in {organisation.name}: `vera-hub org members {organisation.name}` shows who is, and "
            f"`vera-hub org invitations {organisation.name}` who is invited.",
            code="MEMBER_UNKNOWN",
            user=user[:64],
        )
    return membership, account


def _require_another_owner(session: Session, organisation: Account, user: str) -> None:
    if accounts.count_owners(session, organisation.id) == 1:
        raise Conflict(
            f"{user} is the last owner of {organisation.name}, which nobody could manage then: make somebody else an "
            "owner first.",
            code="LAST_OWNER",
            organisation=organisation.name,
        )


def _invitation(session: Session, organisation_id: int, user_id: int, name: str) -> Invitation:
    found = accounts.invitation(session, organisation_id, user_id, at=db.now(session))
    if found is None:
        raise _no_invitation(name)
    return found


def _no_invitation(name: str) -> NotFound:
    return NotFound(
        f"There is no open invitation to {name[:64]}: it was answered or has expired. Ask an owner for another.",
        code="INVITATION_UNKNOWN",
        organisation=name[:64],
    )


def _view(organisation: Account, role: Role | None) -> OrganisationView:
    return OrganisationView(
        name=organisation.name, role=role.value if role else None, created_at=organisation.created_at
    )


def _member_view(membership: Membership) -> MemberView:
    return MemberView(user=membership.user.name, role=Role(membership.role).value, since=membership.created_at)


def _views(invitations: Sequence[Invitation]) -> tuple[InvitationView, ...]:
    return tuple(_invitation_view(each) for each in invitations)


def _invitation_view(invitation: Invitation) -> InvitationView:
    return InvitationView(
        organisation=invitation.organisation.name,
        user=invitation.user.name,
        role=Role(invitation.role).value,
        invited_by=invitation.invited_by.name,
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
    )
