"""Tokens: found by their hash, listed by their account."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import Select, bindparam, select, update
from sqlalchemy.orm import Session, joinedload

from hub.db.models.accounts import Token


def by_hash(session: Session, token_hash: bytes) -> Token | None:
    """The token with this hash, with its account."""
    return session.scalar(_by_hash(), {"hash": token_hash})


@cache
def _by_hash() -> Select[Token]:
    """Made once: every request with a token asks for it, and making it takes longer than running it."""
    return select(Token).where(Token.hash == bindparam("hash")).options(joinedload(Token.account))


def usable_of(session: Session, account_id: int, kinds: tuple[str, ...], *, at: datetime) -> list[Token]:
    """The account's tokens of these kinds that are neither revoked nor expired, the newest first."""
    query = (
        select(Token)
        .where(Token.account_id == account_id, Token.kind.in_(kinds))
        .where(Token.revoked_at.is_(None), Token.expires_at > at)
        .options(joinedload(Token.account), joinedload(Token.created_by))
    )
    return list(session.scalars(query.order_by(Token.id.desc())))


def by_id(session: Session, token_id: int) -> Token | None:
    query = select(Token).where(Token.id == token_id, Token.revoked_at.is_(None))
    return session.scalar(query.options(joinedload(Token.account)))


def hash_of_id(session: Session, token_id: int) -> bytes:
    """The hash of a token that is there."""
    return session.scalars(select(Token.hash).where(Token.id == token_id)).one()


def note_use(session: Session, token_id: int, *, at: datetime, at_most_every: timedelta) -> None:
    unseen = Token.last_used_at.is_(None) | (Token.last_used_at < at - at_most_every)
    session.execute(update(Token).where(Token.id == token_id, unseen).values(last_used_at=at))


def revoke(session: Session, token_id: int, *, at: datetime) -> bool:
    """True when this call revoked it, and no earlier one: what may be used once is used by whoever gets True."""
    revoked = session.execute(
        update(Token).where(Token.id == token_id, Token.revoked_at.is_(None)).values(revoked_at=at)
    )
    return bool(revoked.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an UPDATE


def revoke_all(session: Session, account_id: int, kind: str | None = None, *, at: datetime) -> None:
    """Revokes every token, of this kind or of any, that the account has."""
    mine = update(Token).where(Token.account_id == account_id, Token.revoked_at.is_(None))
    session.execute((mine if kind is None else mine.where(Token.kind == kind)).values(revoked_at=at))
