"""Accounts and tokens."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session, joinedload

from hub.db.models import Account, Token
from hub.db.queries.inserting import insert_new


def ensure_account(session: Session, name: str, *, at: datetime) -> Account:
    """The user `name`, made now when there is none."""
    insert_new(session, Account, name=name, kind="user", created_at=at)
    return session.scalars(select(Account).where(Account.name == name)).one()


def token_by_hash(session: Session, token_hash: bytes) -> Token | None:
    """The token with this hash, with its account."""
    return session.scalar(select(Token).where(Token.hash == token_hash).options(joinedload(Token.account)))


def note_token_use(session: Session, token_id: int, *, at: datetime, at_most_every: timedelta) -> None:
    unseen = Token.last_used_at.is_(None) | (Token.last_used_at < at - at_most_every)
    session.execute(update(Token).where(Token.id == token_id, unseen).values(last_used_at=at))


def revoke_tokens(session: Session, account_id: int, kind: str, *, at: datetime) -> None:
    """Revokes every token of this kind that the account has."""
    session.execute(
        update(Token)
        .where(Token.account_id == account_id, Token.kind == kind, Token.revoked_at.is_(None))
        .values(revoked_at=at)
    )
