"""Accounts: users and organisations, who is what in which, and who is invited."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, delete, func, select, true, update
from sqlalchemy.orm import Session, contains_eager, joinedload

from hub.db.models.accounts import Account, Invitation, Membership
from hub.db.models.adapters import Adapter
from hub.db.models.objects import Projection
from hub.db.models.versions import Version
from hub.db.prepared import Prepared
from hub.db.queries import drafts
from hub.db.queries.inserting import insert_new


class RoleRow(NamedTuple):
    """An organisation and what a user is in it."""

    account_id: int
    namespace: str
    role: str


_ACCOUNTS, _MEMBERSHIPS = Account.__table__.c, Membership.__table__.c
# Made once: every push of a new adapter asks for the one, every request with a token for the other.
_THERE = Prepared(select(_ACCOUNTS.id).where(_ACCOUNTS.id == bindparam("account_id"), _ACCOUNTS.deleted_at.is_(None)))
_ROLES = Prepared(
    select(_ACCOUNTS.id, _ACCOUNTS.name, _MEMBERSHIPS.role)
    .join(Membership.__table__, _MEMBERSHIPS.organisation_id == _ACCOUNTS.id)
    .where(_MEMBERSHIPS.user_id == bindparam("user_id"), _ACCOUNTS.deleted_at.is_(None))
    .order_by(_ACCOUNTS.name)
)


def ensure_account(session: Session, name: str, *, at: datetime) -> Account:
    """The account `name`: a user made now when there is none."""
    insert_new(session, Account, name=name, kind="user", created_at=at)
    return session.scalars(select(Account).where(Account.name == name)).one()


def create(session: Session, name: str, kind: str, *, at: datetime) -> Account | None:
    """A new account; None when the name is, or was, somebody's."""
    if not insert_new(session, Account, name=name, kind=kind, created_at=at):
        return None
    return session.scalars(select(Account).where(Account.name == name)).one()


def find(session: Session, name: str, kind: str | None = None) -> Account | None:
    """The account, unless it was deleted."""
    query = select(Account).where(Account.name == name, Account.deleted_at.is_(None))
    return session.scalar(query if kind is None else query.where(Account.kind == kind))


def id_of(session: Session, name: str) -> int | None:
    """The id of the account, unless it was deleted."""
    return session.scalar(select(Account.id).where(Account.name == name, Account.deleted_at.is_(None)))


def names_of(session: Session, ids: Collection[int]) -> dict[int, str]:
    """The names of these accounts, by id."""
    rows = session.execute(select(Account.id, Account.name).where(Account.id.in_(ids)))
    return {row.id: row.name for row in rows}


def hold(session: Session, account_id: int) -> None:
    """Locks the account until the transaction ends: changes of its members come one after another."""
    session.execute(select(Account.id).where(Account.id == account_id).with_for_update())


def is_there(session: Session, account_id: int) -> bool:
    """False for an account that was deleted."""
    return _THERE.scalar(session, {"account_id": account_id}) is not None


def users(session: Session, *, after: str | None, limit: int) -> list[Account]:
    """Users by name, those beyond the name `after`."""
    query = select(Account).where(Account.kind == "user", Account.deleted_at.is_(None)).order_by(Account.name)
    if after is not None:
        query = query.where(Account.name > after)
    return list(session.scalars(query.limit(limit)))


def has_admin(session: Session) -> bool:
    return session.scalar(select(Account.id).where(Account.is_admin, Account.deleted_at.is_(None)).limit(1)) is not None


def admins(session: Session) -> list[str]:
    """Their names, in order."""
    query = select(Account.name).where(Account.is_admin, Account.deleted_at.is_(None)).order_by(Account.name)
    return list(session.scalars(query))


def hold_admins(session: Session) -> int:
    """How many admins there are, who stay so until the transaction ends: two cannot unmake each other."""
    admins = select(Account.id).where(Account.is_admin, Account.deleted_at.is_(None)).order_by(Account.id)
    return len(session.scalars(admins.with_for_update()).all())


def has_adapters(session: Session, account_id: int) -> bool:
    return session.scalar(select(Adapter.id).where(Adapter.account_id == account_id).limit(1)) is not None


def usage(session: Session, account_id: int) -> tuple[int, int]:
    """How many adapters the account has, and the bytes of their drafts, of all their versions but the deleted ones, and of
    the stored pairs that it was the first to send."""
    mine = select(func.count()).where(Adapter.account_id == account_id)
    there = Adapter.account_id == account_id, Version.deleted_at.is_(None)
    size = select(func.sum(Version.size_bytes)).join(Version.adapter).where(*there)
    pairs = session.scalar(select(func.sum(Projection.size_bytes)).where(Projection.created_by_id == account_id))
    size_bytes = int(session.scalar(size) or 0) + drafts.used_bytes(session, account_id) + int(pairs or 0)
    return session.scalar(mine) or 0, size_bytes


def mirror(session: Session, name: str, origin: str, *, at: datetime) -> bool:
    """Makes the copy of a namespace of the hub at `origin`. False when the name is, or was, somebody's."""
    return insert_new(session, Account, name=name, kind="organisation", created_at=at, mirrored_from=origin)


def known(session: Session, name: str) -> Account | None:
    """The account, one that was deleted too."""
    return session.scalar(select(Account).where(Account.name == name))


def private_mirrors(session: Session) -> list[tuple[int, str]]:
    """The mirrored namespaces with an adapter that not everybody sees, by id and name."""
    private = select(Adapter.account_id).where(Adapter.is_private == true())
    query = select(Account.id, Account.name).where(Account.mirrored_from.is_not(None), Account.id.in_(private))
    return [(row.id, row.name) for row in session.execute(query)]


# -- Members --------------------------------------------------------------------------------------


def roles_of(session: Session, user_id: int) -> list[RoleRow]:
    """What the user is in each organisation, by its name."""
    return [RoleRow(*row) for row in _ROLES.all(session, {"user_id": user_id})]


def members(session: Session, organisation_id: int) -> list[Membership]:
    """The members with their accounts, by name."""
    query = (
        select(Membership)
        .join(Account, Account.id == Membership.user_id)
        .where(Membership.organisation_id == organisation_id)
        .options(contains_eager(Membership.user))
    )
    return list(session.scalars(query.order_by(Account.name)))


def member(session: Session, organisation_id: int, user_id: int) -> Membership | None:
    return session.get(Membership, (organisation_id, user_id), populate_existing=True)


def add_member(session: Session, organisation_id: int, user_id: int, role: str, *, at: datetime) -> bool:
    """True unless they were a member already, whose role this does not change."""
    return insert_new(session, Membership, organisation_id=organisation_id, user_id=user_id, role=role, created_at=at)


def set_role(session: Session, organisation_id: int, user_id: int, role: str) -> None:
    session.execute(update(Membership).where(*_is_member(organisation_id, user_id)).values(role=role))


def remove_member(session: Session, organisation_id: int, user_id: int) -> None:
    session.execute(delete(Membership).where(*_is_member(organisation_id, user_id)))


def remove_members(session: Session, organisation_id: int) -> None:
    """Everybody out, the invited too."""
    session.execute(delete(Membership).where(Membership.organisation_id == organisation_id))
    session.execute(delete(Invitation).where(Invitation.organisation_id == organisation_id))


def leave_everything(session: Session, user_id: int) -> None:
    """Ends the memberships and the invitations of a user."""
    session.execute(delete(Membership).where(Membership.user_id == user_id))
    session.execute(delete(Invitation).where(Invitation.user_id == user_id))


def count_owners(session: Session, organisation_id: int) -> int:
    query = select(func.count()).where(Membership.organisation_id == organisation_id, Membership.role == "owner")
    return session.scalar(query) or 0


# -- Invitations ----------------------------------------------------------------------------------


def invite(
    session: Session, *, organisation_id: int, user_id: int, role: str, by_id: int, at: datetime, expires_at: datetime
) -> None:
    """An invitation in the place of any earlier one to this user."""
    withdraw(session, organisation_id, user_id)
    session.add(
        Invitation(
            organisation_id=organisation_id,
            user_id=user_id,
            role=role,
            invited_by_id=by_id,
            created_at=at,
            expires_at=expires_at,
        )
    )
    session.flush()


def withdraw(session: Session, organisation_id: int, user_id: int) -> bool:
    """Takes the invitation back. True when there was one."""
    gone = session.execute(
        delete(Invitation).where(Invitation.organisation_id == organisation_id, Invitation.user_id == user_id)
    )
    return bool(gone.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is a DELETE


def invitation(session: Session, organisation_id: int, user_id: int, *, at: datetime) -> Invitation | None:
    """The invitation, unless it has expired."""
    query = _open_invitations(at).where(Invitation.organisation_id == organisation_id, Invitation.user_id == user_id)
    return session.scalar(query)


def invitations_to(session: Session, user_id: int, *, at: datetime) -> Sequence[Invitation]:
    return session.scalars(_open_invitations(at).where(Invitation.user_id == user_id)).all()


def invitations_of(session: Session, organisation_id: int, *, at: datetime) -> Sequence[Invitation]:
    return session.scalars(_open_invitations(at).where(Invitation.organisation_id == organisation_id)).all()


def _is_member(organisation_id: int, user_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return Membership.organisation_id == organisation_id, Membership.user_id == user_id


def _open_invitations(at: datetime) -> Select[Invitation]:
    return (
        select(Invitation)
        .where(Invitation.expires_at > at)
        .order_by(Invitation.created_at)
        .options(joinedload(Invitation.organisation), joinedload(Invitation.user), joinedload(Invitation.invited_by))
    )
