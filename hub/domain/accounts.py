"""Users and their tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.auth import tokens
from hub.auth.policy import SCOPES_OF_KIND, Principal
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models import Token
from hub.db.queries import accounts
from hub.domain.views import PrincipalView
from hub.errors import Unauthorized
from vera.ref import RESERVED_NAMESPACES, check_namespace

TOKEN_LIFETIME = timedelta(days=365)
_NOTE_USE_EVERY = timedelta(minutes=1)
_NAME_OCTETS = 39


def ensure_user(session: Session, name: str) -> int:
    """The id of the user `name`, made now when there is none. Raises RefError for an impossible name."""
    check_namespace(name)
    return accounts.ensure_account(session, name, at=db.now(session)).id


def issue_token(session: Session, account_id: int, kind: TokenKind) -> str:
    """A new token for the account, with the scopes of its kind. It can never be read again."""
    secret, at = tokens.mint(kind), db.now(session)
    session.add(
        Token(
            account_id=account_id,
            kind=kind,
            hash=tokens.hash_of(secret),
            last4=secret[-4:],
            scopes=list(SCOPES_OF_KIND[kind]),
            created_at=at,
            expires_at=at + TOKEN_LIFETIME,
        )
    )
    return secret


def keep_or_issue_token(session: Session, account_id: int, kind: TokenKind, known: Iterable[str]) -> str:
    """The first of `known` that is still a good token of this account, or else a new one."""
    for secret in known:
        try:
            principal, _ = authenticate(session, secret)
        except Unauthorized:
            continue
        if principal.account_id == account_id and secret.startswith(f"vh{kind}_"):
            return secret
    return issue_token(session, account_id, kind)


def revoke_tokens(session: Session, account_id: int, kind: TokenKind) -> None:
    """Revokes every token of this kind that the account has, from the next request on."""
    accounts.revoke_tokens(session, account_id, kind, at=db.now(session))


def authenticate(session: Session, secret: str) -> tuple[Principal, bool]:
    """Who the token speaks for, and whether it is time to `note_use` of it.

    Raises Unauthorized when it is garbage, unknown, expired or revoked.
    """
    if not tokens.is_well_formed(secret):
        raise _invalid("is not a token of this hub, or was cut short")
    token = accounts.token_by_hash(session, tokens.hash_of(secret))
    if token is None:
        raise _invalid("is not known here")
    if token.revoked_at is not None:
        raise _invalid("was revoked")
    at = db.now(session)
    if token.expires_at <= at:
        raise _invalid("has expired")
    kind = "worker" if token.kind == TokenKind.WORKER else "user"
    principal = Principal(token.account_id, token.id, token.account.name, kind, frozenset(token.scopes))
    return principal, token.last_used_at is None or token.last_used_at < at - _NOTE_USE_EVERY


def note_use(session: Session, principal: Principal) -> None:
    """Remembers that the token was used, to the minute."""
    accounts.note_token_use(session, principal.token_id, at=db.now(session), at_most_every=_NOTE_USE_EVERY)


def describe(principal: Principal) -> PrincipalView:
    return PrincipalView(principal.name, principal.kind, tuple(sorted(principal.scopes)))


def user_name_from(text: str) -> str:
    """A valid user name that is as near to `text` (an operating system's user name) as can be."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower())[:_NAME_OCTETS].strip("-") or "local"
    return f"local-{name}" if name in RESERVED_NAMESPACES else name


def _invalid(why: str) -> Unauthorized:
    return Unauthorized(f"The token that was sent {why}: log in again with `vera-hub login`.", code="TOKEN_INVALID")
