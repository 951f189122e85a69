"""Whom a token speaks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy.orm import Session

from hub.auth import tokens
from hub.auth.policy import LOGIN_SCOPES, SCOPES_OF_KIND, Grant, Principal, Role, Scope
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models.accounts import Token
from hub.db.queries import accounts
from hub.db.queries import tokens as token_rows
from hub.db.queries.tokens import Standing
from hub.domain.views.accounts import PrincipalView, RoleView
from hub.errors import Unauthorized, Unavailable
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
    return add_token(session, account_id, kind)[1]


def add_token(
    session: Session,
    account_id: int,
    kind: TokenKind,
    *,
    scopes: Iterable[Scope] | None = None,
    lifetime: timedelta = TOKEN_LIFETIME,
    name: str | None = None,
    restricted_to: list[str] | None = None,
    created_by_id: int | None = None,
) -> tuple[Token, str]:
    """A new token and its secret, which is kept nowhere. Without `scopes` it has those of its kind."""
    secret, at = tokens.mint(kind), db.now(session)
    token = Token(
        account_id=account_id,
        kind=kind,
        hash=tokens.hash_of(secret),
        last4=secret[-4:],
        scopes=list(SCOPES_OF_KIND[kind] if scopes is None else scopes),
        created_at=at,
        expires_at=at + lifetime,
        name=name,
        restricted_to=restricted_to,
        created_by_id=created_by_id,
    )
    session.add(token)
    session.flush()
    return token, secret


def keep_or_issue_token(session: Session, account_id: int, kind: TokenKind, known: Iterable[str]) -> str:
    """The first of `known` that is still a good token of this account with all that its kind may, or else a new one."""
    for secret in known:
        try:
            principal = authenticate(session, secret).principal
        except Unauthorized:
            continue
        has_all = principal.scopes.issuperset(SCOPES_OF_KIND[kind]) and principal.restricted_to is None
        if principal.account_id == account_id and secret.startswith(f"vh{kind}_") and has_all:
            return secret
    return issue_token(session, account_id, kind)


def known_login(session: Session, known: Iterable[str]) -> tuple[str, str] | None:
    """The user and the secret of the first of `known` that is still a login here, with all that a user may."""
    for secret in known:
        try:
            principal = authenticate(session, secret).principal
        except Unauthorized:
            continue
        if principal.kind == "user" and principal.scopes.issuperset(LOGIN_SCOPES) and principal.restricted_to is None:
            return principal.name, secret
    return None


def revoke_tokens(session: Session, account_id: int, kind: TokenKind) -> None:
    """Revokes every token of this kind that the account has, from the next request on."""
    token_rows.revoke_all(session, account_id, kind, at=db.now(session))


class SignedIn(NamedTuple):
    """Who a token speaks for, whether it is time to `note_use` of it, and until when both hold if nothing is committed."""

    principal: Principal
    is_note_due: bool
    holds_until: datetime


def authenticate(session: Session, secret: str) -> SignedIn:
    """Who the token speaks for.

    Raises Unauthorized when it is garbage, unknown, expired or revoked.
    """
    if not tokens.is_well_formed(secret):
        raise _invalid("is not a token of this hub, or was cut short")
    token = token_rows.standing_of_hash(session, tokens.hash_of(secret))
    if token is None:
        raise _invalid("is not known here")
    at = db.now(session)
    _require_good(token, at)
    note_due_at = at if token.last_used_at is None else token.last_used_at + _NOTE_USE_EVERY
    return SignedIn(_principal(session, token), note_due_at <= at, min(token.expires_at, note_due_at))


def require_still(session: Session, principal: Principal) -> None:
    """Returns when `principal`, who was let in before the body of the request came, still may what they might then: a
    body may take minutes to come.

    Raises Unauthorized for a token that is good no longer, and Unavailable for one that may less: come again, the request
    is told what it may not.
    """
    now = as_it_stands(session, principal)
    if set(principal.grants) - set(now.grants) or (principal.is_admin and not now.is_admin):
        raise Unavailable(
            "What this token may do was changed while the request was on its way, and nothing was done: send it again.",
            code="RIGHTS_CHANGED",
        )


def as_it_stands(session: Session, principal: Principal) -> Principal:
    """The principal with the rights of this moment. Raises Unauthorized for a token that is good no longer."""
    token = token_rows.standing_of(session, principal.token_id)
    if token is None:
        raise _invalid("was revoked")
    _require_good(token, db.now(session))
    return _principal(session, token)


def note_use(session: Session, principal: Principal) -> None:
    """Remembers that the token was used, to the minute."""
    token_rows.note_use(session, principal.token_id, at=db.now(session), at_most_every=_NOTE_USE_EVERY)


def describe(principal: Principal) -> PrincipalView:
    others = (grant for grant in principal.grants if grant.account_id != principal.account_id)
    return PrincipalView(
        name=principal.name,
        kind=principal.kind,
        scopes=tuple(sorted(principal.scopes)),
        organisations=tuple(RoleView(grant.namespace, grant.role.value) for grant in others),
        restricted_to=None if principal.restricted_to is None else tuple(sorted(principal.restricted_to)),
        is_admin=principal.is_admin,
    )


def user_name_from(text: str) -> str:
    """A valid user name that is as near to `text` (an operating system's user name) as can be."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower())[:_NAME_OCTETS].strip("-") or "local"
    return f"local-{name}" if name in RESERVED_NAMESPACES else name


def _principal(session: Session, token: Standing) -> Principal:
    """Whom the token speaks for, with the roles they have at this moment."""
    programs = {TokenKind.WORKER: "worker", TokenKind.BOOTSTRAP: "code"}
    kind = programs.get(TokenKind(token.kind), token.account_kind)
    scopes = frozenset(token.scopes)
    if Scope.PUSH in scopes:
        scopes |= {Scope.READ}  # who may push something may see it; early tokens say only the first
    return Principal(
        account_id=token.account_id,
        token_id=token.token_id,
        name=token.account,
        kind=kind,
        scopes=scopes,
        grants=() if kind in programs.values() else tuple(_grants(session, token)),
        is_admin=token.is_admin and Scope.ADMIN in scopes,
        restricted_to=None if token.restricted_to is None else frozenset(token.restricted_to),
        provenance=token.provenance,
    )


def _grants(session: Session, token: Standing) -> Iterator[Grant]:
    if token.account_kind == "organisation":
        yield Grant(token.account_id, token.account, Role.MAINTAINER)  # programs manage no members
        return
    yield Grant(token.account_id, token.account, Role.OWNER)
    for row in accounts.roles_of(session, token.account_id):
        yield Grant(row.account_id, row.namespace, Role(row.role))
    if session.info.get("shares_mirrored"):  # the operator's token has fetched them for everybody here
        for account_id, namespace in accounts.private_mirrors(session):
            yield Grant(account_id, namespace, Role.READER)


def _require_good(token: Standing, at: datetime) -> None:
    if token.revoked_at is not None:
        raise _invalid("was revoked")
    if token.expires_at <= at:
        raise _invalid("has expired")
    if token.account_deleted_at is not None:
        raise _invalid("speaks for an account that is no more")


def _invalid(why: str) -> Unauthorized:
    return Unauthorized(f"The token that was sent {why}: log in again with `vera-hub login`.", code="TOKEN_INVALID")
