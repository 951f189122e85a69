"""Users, as admins manage them, and the codes with which a user signs in for the first time.

A code is a token that can be used once, for nothing but a login. An admin hands one to a new user; the hub
leaves one in its own folder while it has no admin, so that whoever runs it can become the first.
"""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Scope, authorize
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models.accounts import Account
from hub.db.queries import accounts as account_rows
from hub.db.queries import tokens as token_rows
from hub.domain import accounts, enrolling, paging
from hub.domain.audit import Change, record
from hub.domain.organisations import name_taken
from hub.domain.views.accounts import CodeView, LoginView, UserView
from hub.domain.views.page import Page
from hub.errors import Conflict, Forbidden, NotFound, Unauthorized
from vera.ref import check_namespace

LOGIN_LIFETIME = timedelta(days=90)
SESSION_LIFETIME = timedelta(hours=12)
CODE_LIFETIME = timedelta(days=7)
BOOTSTRAP_LIFETIME = timedelta(hours=1)


def list_users(session: Session, principal: Principal, *, cursor: str | None = None, limit: int = 50) -> Page[UserView]:
    """Users by name."""
    authorize(principal, Action.MANAGE_USERS)
    keys = paging.decode(session, cursor, "users", str)
    rows = account_rows.users(session, after=str(keys[0]) if keys else None, limit=limit + 1)
    return paging.page(rows, limit, _view, lambda row: paging.encode(session, "users", row.name))


def create(session: Session, principal: Principal, name: str, *, is_admin: bool = False) -> CodeView:
    """A new user, and the code with which they sign in. Raises RefError and Conflict for the name."""
    authorize(principal, Action.MANAGE_USERS)
    check_namespace(name)
    account = account_rows.create(session, name, "user", at=db.now(session))
    if account is None:
        raise name_taken(name)
    account.is_admin = is_admin
    made = _code_for(session, principal, account)
    record(session, principal, Change.USER_CREATED, name, {"is_admin": is_admin})
    return made


def new_code(session: Session, principal: Principal, name: str) -> CodeView:
    """Another code for a user who has lost theirs, or every token. Raises NotFound."""
    authorize(principal, Action.MANAGE_USERS)
    account = _find(session, name)
    token_rows.revoke_all(session, account.id, TokenKind.BOOTSTRAP, at=db.now(session))
    made = _code_for(session, principal, account)
    record(session, principal, Change.USER_CODE_MADE, name)
    return made


def set_admin(session: Session, principal: Principal, name: str, *, is_admin: bool) -> UserView:
    """Makes a user an admin, or no longer one, whose workers are then let go: they read what nobody else sees, and what
    they measure counts. Raises NotFound, and Conflict for the last one."""
    authorize(principal, Action.MANAGE_USERS)
    account = _find(session, name)
    if account.is_admin and not is_admin:
        _require_another_admin(session, name)
    if account.is_admin != is_admin:
        account.is_admin = is_admin
        session.flush()
        facts = {} if is_admin else {"workers": enrolling.let_go(session, account.id)}
        record(session, principal, Change.USER_ADMIN_CHANGED, name, {"is_admin": is_admin, **facts})
    return _view(account)


def delete(session: Session, principal: Principal, name: str) -> None:
    """Ends an account: its tokens, its memberships, and for ever its name. Its public adapters stay, for those
    who rely on them. Raises NotFound, and Conflict for a last admin or owner."""
    authorize(principal, Action.MANAGE_USERS)
    account, at = _find(session, name), db.now(session)
    account_rows.hold(session, account.id)  # and joins no organisation meanwhile
    if account.is_admin:
        _require_another_admin(session, name)
    roles = account_rows.roles_of(session, account.id)
    for row in roles:
        account_rows.hold(session, row.account_id)
        if row.role == "owner" and account_rows.count_owners(session, row.account_id) == 1:
            raise Conflict(
                f"{name} is the last owner of {row.namespace}: make somebody else an owner first.",
                code="LAST_OWNER",
                organisation=row.namespace,
            )
    account.deleted_at, account.is_admin, account.password_hash = at, False, None
    account_rows.leave_everything(session, account.id)
    token_rows.revoke_all(session, account.id, at=at)
    for row in roles:
        record(session, principal, Change.MEMBER_REMOVED, row.namespace, {"user": name, "role": row.role})
    record(session, principal, Change.USER_DELETED, name)


# -- Signing in -----------------------------------------------------------------------------------


def offer_bootstrap(session: Session, account_id: int) -> str | None:
    """The code that makes the first admin; None when there is one. Earlier ones are good no longer."""
    if account_rows.has_admin(session):
        return None
    token_rows.revoke_all(session, account_id, TokenKind.BOOTSTRAP, at=db.now(session))
    _, secret = accounts.add_token(
        session, account_id, TokenKind.BOOTSTRAP, scopes=(Scope.ADMIN,), lifetime=BOOTSTRAP_LIFETIME
    )
    return secret


def use_code(session: Session, principal: Principal, user: str | None, password_hash: str | None) -> LoginView:
    """The login that a code is good for, once. The bootstrap code makes `user`, or its own account, the first admin.

    Raises Unauthorized for a code that was used meanwhile, Conflict when there is an admin already.
    """
    authorize(principal, Action.USE_CODE)
    if not token_rows.revoke(session, principal.token_id, at=db.now(session)):
        raise Unauthorized("That code was used already: ask for another.", code="TOKEN_INVALID")
    account = (
        _first_admin(session, principal, user)
        if Scope.ADMIN in principal.scopes
        else _invited(session, principal, user)
    )
    if password_hash is not None:
        account.password_hash = password_hash
    session.flush()
    return open_login(session, account)


def open_login(
    session: Session, account: Account, kind: TokenKind = TokenKind.PERSONAL, lifetime: timedelta = LOGIN_LIFETIME
) -> LoginView:
    """A token with all that the account may."""
    token, secret = accounts.add_token(session, account.id, kind, lifetime=lifetime, name="sign-in")
    record(session, None, Change.SIGNED_IN, account.name, {"token": token.id, "last4": token.last4})
    return LoginView(user=account.name, is_admin=account.is_admin, token=secret, expires_at=token.expires_at)


def open_session(session: Session, name: str) -> LoginView:
    """A login for the pages, which lasts a working day. Raises NotFound."""
    return open_login(session, _find(session, name), TokenKind.SESSION, SESSION_LIFETIME)


def password_hash_of(session: Session, name: str) -> str | None:
    """None for somebody without a password, and for nobody."""
    account = account_rows.find(session, name, "user")
    return account.password_hash if account else None


def sign_in(session: Session, name: str) -> LoginView:
    """The login of somebody whose password was right. Raises NotFound for who was deleted meanwhile."""
    return open_login(session, _find(session, name))


def set_password(session: Session, principal: Principal, password_hash: str) -> None:
    """Replaces the principal's password, and ends their other sessions."""
    account = _find(session, principal.name)
    account.password_hash = password_hash
    token_rows.revoke_all(session, account.id, TokenKind.SESSION, at=db.now(session))
    record(session, principal, Change.PASSWORD_CHANGED, account.name)


def wrong_password() -> Unauthorized:
    """Said of a wrong name and a wrong password alike."""
    return Unauthorized("That is not the name and the password of a user here.", code="PASSWORD_WRONG")


def _first_admin(session: Session, principal: Principal, user: str | None) -> Account:
    if account_rows.has_admin(session):
        raise Conflict("This hub has an admin already: ask them for what you need.", code="ADMIN_EXISTS")
    name = user or principal.name
    accounts.ensure_user(session, name)
    account = account_rows.find(session, name, "user")
    if account is None:
        raise name_taken(name)
    account.is_admin = True
    return account


def _invited(session: Session, principal: Principal, user: str | None) -> Account:
    if user not in (None, principal.name):
        raise Forbidden(f"This code is {principal.name}'s: sign in with that name.", code="FORBIDDEN")
    return _find(session, principal.name)


def _code_for(session: Session, principal: Principal, account: Account) -> CodeView:
    session.flush()
    token, secret = accounts.add_token(
        session,
        account.id,
        TokenKind.BOOTSTRAP,
        scopes=(),
        lifetime=CODE_LIFETIME,
        created_by_id=principal.account_id,
    )
    return CodeView(user=account.name, code=secret, expires_at=token.expires_at)


def _find(session: Session, name: str) -> Account:
    account = account_rows.find(session, name, "user")
    if account is None:
        raise NotFound(f"There is no user {name[:64]} here: check the name.", code="USER_UNKNOWN", user=name[:64])
    return account


def _require_another_admin(session: Session, name: str) -> None:
    if account_rows.hold_admins(session) == 1:
        raise Conflict(f"{name} is the last admin: make somebody else one first.", code="LAST_ADMIN", user=name)


def _view(account: Account) -> UserView:
    return UserView(name=account.name, is_admin=account.is_admin, created_at=account.created_at)
