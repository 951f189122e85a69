"""Trusted publishers, and the identities that were shown."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session, joinedload

from hub.db.models.accounts import Account, Publisher, ShownIdentity
from hub.db.queries.inserting import insert_new


def of_account(session: Session, account_id: int) -> list[Publisher]:
    query = select(Publisher).where(Publisher.account_id == account_id).options(joinedload(Publisher.created_by))
    return list(session.scalars(query.order_by(Publisher.id)))


def by_id(session: Session, publisher_id: int, account_id: int) -> Publisher | None:
    return session.scalar(select(Publisher).where(Publisher.id == publisher_id, Publisher.account_id == account_id))


def of_repository(session: Session, issuer: str, repository_id: str, owner_id: str) -> list[Publisher]:
    """Those for this repository of an issuer, with their accounts, unless they were deleted."""
    query = (
        select(Publisher)
        .join(Account, Account.id == Publisher.account_id)
        .where(Publisher.issuer == issuer, Publisher.repository_id == repository_id, Publisher.owner_id == owner_id)
        .where(Account.deleted_at.is_(None))
        .options(joinedload(Publisher.account))
    )
    return list(session.scalars(query.order_by(Publisher.id)))


def note_shown(session: Session, identity_hash: bytes, *, at: datetime, until: datetime) -> bool:
    """Remembers that an identity was shown, and forgets those that have expired. False when it was shown before."""
    session.execute(delete(ShownIdentity).where(ShownIdentity.expires_at < at))
    return insert_new(session, ShownIdentity, hash=identity_hash, expires_at=until)
