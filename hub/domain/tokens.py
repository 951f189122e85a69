"""Tokens that people make for programs: listed, made, revoked.

Only signing in gives `token:manage` and `admin`: a token that a program holds, and may lose, makes no others.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.auth.policy import SERVICE_SCOPES, Action, Principal, Resource, Role, Scope, authorize
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models.accounts import Account, Token
from hub.db.queries import accounts as account_rows
from hub.db.queries import tokens as token_rows
from hub.domain import accounts
from hub.domain.audit import Change, record
from hub.domain.organisations import require_user
from hub.domain.views.accounts import NewTokenView, TokenView
from hub.errors import Forbidden, Invalid, NotFound
from vera.errors import RefError
from vera.ref import check_adapter_id, check_namespace

MAX_DAYS = 365
_SHOWN = tuple(TokenKind)[:4]
_BY_SIGNING_IN = frozenset({Scope.TOKENS, Scope.ADMIN})
_WORDS = {
    TokenKind.PERSONAL: "personal",
    TokenKind.CI: "service",
    TokenKind.WORKER: "worker",
    TokenKind.SESSION: "session",
}


def tokens_of(session: Session, principal: Principal, organisation: str | None = None) -> tuple[TokenView, ...]:
    """The usable tokens of the principal, or of an organisation of theirs, the newest first."""
    account_id = _managed(session, principal, organisation).id
    found = token_rows.usable_of(session, account_id, _SHOWN, at=db.now(session))
    return tuple(
        _view(each, principal, each.account.name, each.created_by.name if each.created_by else None) for each in found
    )


def create(
    session: Session,
    principal: Principal,
    name: str,
    scopes: Sequence[str],
    *,
    expires_in_days: int = 90,
    restricted_to: Sequence[str] | None = None,
    organisation: str | None = None,
) -> NewTokenView:
    """A token of the principal's, or of an organisation of theirs for its programs. Its secret is in no later answer.

    Raises Invalid, and Forbidden for what would be more than the principal may.
    """
    account = _managed(session, principal, organisation)
    granted = _granted(principal, scopes, within=SERVICE_SCOPES if organisation else None)
    names = None if restricted_to is None else sorted(set(restricted_to))
    for each in names or ():
        _require_reach(principal, each, organisation)
    kind = TokenKind.CI if organisation else TokenKind.PERSONAL
    return _keep(session, principal, account, kind=kind, name=name, scopes=granted, days=expires_in_days, names=names)


def create_for_worker(session: Session, principal: Principal, name: str, *, expires_in_days: int = 90) -> NewTokenView:
    """A token with which an evaluation worker takes jobs, of everybody's adapters: for admins to make."""
    authorize(principal, Action.MANAGE_USERS)
    account = _managed(session, principal, None)
    kind, scopes = TokenKind.WORKER, (Scope.LEASE,)
    return _keep(session, principal, account, kind=kind, name=name, scopes=scopes, days=expires_in_days)


def revoke(session: Session, principal: Principal, token_id: str) -> None:
    """Revokes a token of the principal's, or of an organisation they own, from the next request on. Raises NotFound."""
    token = token_rows.by_id(session, int(token_id)) if token_id.isdecimal() and len(token_id) < 19 else None
    if token is None or not _may_revoke(principal, token):
        raise NotFound(f"You have no token {token_id[:20]}: `vera-hub token list` shows yours.", code="TOKEN_UNKNOWN")
    if token_rows.revoke(session, token.id, at=db.now(session)):
        record(session, principal, Change.TOKEN_REVOKED, token.account.name, _facts(token))


def revoke_current(session: Session, principal: Principal) -> None:
    """Revokes the token that was sent with this very request."""
    if token_rows.revoke(session, principal.token_id, at=db.now(session)):
        record(session, principal, Change.TOKEN_REVOKED, principal.name, {"id": principal.token_id})


def _managed(session: Session, principal: Principal, organisation: str | None) -> Account:
    """The account whose tokens are meant, once it is known that the principal may manage them."""
    require_user(principal)
    authorize(principal, Action.MANAGE_TOKENS)
    if organisation is not None:
        authorize(principal, Action.MANAGE_SERVICE_TOKENS, Resource(organisation))
    found = account_rows.find(session, organisation or principal.name)
    if found is None or (organisation is not None and found.kind != "organisation"):
        raise Invalid(f"{organisation} is no organisation: leave it out for a token of your own.", code="BODY_INVALID")
    return found


def _granted(principal: Principal, scopes: Sequence[str], *, within: frozenset[Scope] | None) -> tuple[Scope, ...]:
    known = {scope.value: scope for scope in Scope}
    unknown = sorted(set(scopes) - set(known))
    if unknown or not scopes:
        raise Invalid(
            f"{unknown[0][:40] if unknown else 'Nothing'!r} is no scope: there are {', '.join(known)}.",
            code="SCOPE_UNKNOWN",
        )
    wanted = {known[scope] for scope in scopes}
    limit = (set(principal.scopes) if within is None else set(principal.scopes) & within) - _BY_SIGNING_IN
    beyond = sorted(wanted - limit)
    if beyond:
        raise Forbidden(
            f"A token with the scope {beyond[0]} cannot be made here: a token has no scope that yours lacks, "
            f"{' and '.join(sorted(_BY_SIGNING_IN))} come only with signing in, and an organisation's has only "
            f"{', '.join(sorted(SERVICE_SCOPES))}.",
            code="SCOPE_INSUFFICIENT",
            scope=beyond[0],
        )
    return tuple(sorted(wanted))


def _require_reach(principal: Principal, name: str, organisation: str | None) -> None:
    namespace, slash, adapter = name.partition("/")
    try:
        check_adapter_id(namespace, adapter) if slash else check_namespace(namespace)
    except RefError as error:
        raise Invalid(
            f"{name[:100]!r} is neither a namespace nor an adapter: write acme, or acme/topics.", code="NAME_INVALID"
        ) from error
    resource = Resource(namespace, adapter or None)
    is_elsewhere = organisation is not None and namespace != organisation
    if principal.role_in(namespace) is None or not principal.reaches(resource) or is_elsewhere:
        raise Forbidden(
            f"A token for {name} would reach further than its owner: leave it out.", code="TOKEN_RESTRICTED"
        )


def _keep(
    session: Session,
    principal: Principal,
    account: Account,
    *,
    kind: TokenKind,
    name: str,
    scopes: Sequence[Scope],
    days: int,
    names: list[str] | None = None,
) -> NewTokenView:
    token, secret = accounts.add_token(
        session,
        account.id,
        kind,
        scopes=scopes,
        lifetime=timedelta(days=days),
        name=name,
        restricted_to=names,
        created_by_id=principal.account_id,
    )
    record(session, principal, Change.TOKEN_CREATED, account.name, _facts(token))
    return NewTokenView(**vars(_view(token, principal, account.name, principal.name)), token=secret)


def _may_revoke(principal: Principal, token: Token) -> bool:
    if token.account_id == principal.account_id:
        return True
    return token.account.kind == "organisation" and principal.role_in(token.account.name) is Role.OWNER


def _facts(token: Token) -> dict[str, object]:
    """What the record keeps of a token: which it is, and what it may."""
    return {
        "id": token.id,
        "name": token.name,
        "kind": _WORDS.get(TokenKind(token.kind), "code"),
        "last4": token.last4,
        "scopes": token.scopes,
        "restricted_to": token.restricted_to,
    }


def _view(token: Token, principal: Principal, account: str, created_by: str | None) -> TokenView:
    return TokenView(
        id=str(token.id),
        name=token.name,
        kind=_WORDS[TokenKind(token.kind)],
        account=account,
        last4=token.last4,
        scopes=tuple(token.scopes),
        restricted_to=None if token.restricted_to is None else tuple(token.restricted_to),
        created_by=created_by,
        created_at=token.created_at,
        expires_at=token.expires_at,
        last_used_at=token.last_used_at,
        is_current=token.id == principal.token_id,
    )
