"""Tokens: found by their hash, listed by their account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session, joinedload

from hub.db.models.accounts import Account, Token
from hub.db.prepared import Prepared


class Standing(NamedTuple):
    """What decides whom a token speaks for, and whether it still does: of its own row, and of its account's."""

    token_id: int
    kind: str
    scopes: Sequence[str]
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None
    restricted_to: Sequence[str] | None
    provenance: Mapping[str, str] | None
    account_id: int
    account: str
    account_kind: str
    is_admin: bool
    account_deleted_at: datetime | None


_TOKENS, _ACCOUNTS = Token.__table__.c, Account.__table__.c
# Made once, of columns alone: every request with a token asks for one of them, every change for both.
_STANDING = select(
    _TOKENS.id,
    _TOKENS.kind,
    _TOKENS.scopes,
    _TOKENS.expires_at,
    _TOKENS.last_used_at,
    _TOKENS.revoked_at,
    _TOKENS.restricted_to,
    _TOKENS.provenance,
    _ACCOUNTS.id,
    _ACCOUNTS.name,
    _ACCOUNTS.kind,
    _ACCOUNTS.is_admin,
    _ACCOUNTS.deleted_at,
).join(Account.__table__, _ACCOUNTS.id == _TOKENS.account_id)
_OF_HASH = _STANDING.where(_TOKENS.hash == bindparam("hash"))
_OF_ID = Prepared(_STANDING.where(_TOKENS.id == bindparam("token_id")))


def standing_of_hash(session: Session, token_hash: bytes) -> Standing | None:
    """How it stands with the token of this hash, a revoked one too."""
    row = session.execute(_OF_HASH, {"hash": token_hash}).first()
    return Standing._make(row) if row else None


def standing_of(session: Session, token_id: int) -> Standing | None:
    """How it stands with the token now, whatever the session has read of it before."""
    row = _OF_ID.first(session, {"token_id": token_id})
    return Standing._make(row) if row else None


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
