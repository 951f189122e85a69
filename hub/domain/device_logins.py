"""Signing in a program on some machine by a browser on any (RFC 8628), so that no secret is pasted.

The program gets two codes: a long one that only it knows, and a short one that a person reads off its screen and
answers while signed in. What it collects then is a token of theirs, which they see and revoke like any other.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.auth.policy import LOGIN_SCOPES, Action, Principal, Scope, authorize
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models.accounts import Account, DeviceLogin
from hub.db.queries import device_logins
from hub.db.queries.inserting import insert_new
from hub.domain import accounts
from hub.domain.audit import Change, record
from hub.domain.organisations import require_user
from hub.domain.users import LOGIN_LIFETIME
from hub.errors import Conflict, Forbidden, Gone, NotFound, TooMany

LIFETIME = timedelta(minutes=10)
# Consonants alone: no words, and nothing that is read as something else. 20^8 codes, for ten minutes.
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH = 8
# Who starts more than this is no person; and the table is no place to fill a disk with.
_WAITING_OF_AN_ADDRESS = 20
_WAITING = 5000
# A login by a password may do more: make tokens, and administer. A code on a screen may be somebody else's screen.
WORKING = tuple(scope for scope in LOGIN_SCOPES if scope not in (Scope.TOKENS, Scope.ADMIN))
READING = (Scope.READ, Scope.READ_ORGANISATION)


@dataclass(frozen=True)
class Begun:
    """What the program is told. `device_code` is its secret."""

    device_code: str = field(repr=False)
    user_code: str
    lifetime_s: int


@dataclass(frozen=True)
class DeviceView:
    """Who asks, as far as that can be said: `client` is the program's own word."""

    user_code: str
    client: str
    address: str
    created_at: datetime


@dataclass(frozen=True)
class Collected:
    user: str
    token: str = field(repr=False)
    scopes: tuple[str, ...]
    expires_at: datetime
    lifetime_s: int


def begin(session: Session, client: str, address: str) -> Begun:
    """A program asks. Raises TooMany while too many wait for their answer."""
    at = db.now(session)
    device_logins.forget_expired(session, at=at)
    if device_logins.count(session, address) >= _WAITING_OF_AN_ADDRESS or device_logins.count(session) >= _WAITING:
        raise TooMany(
            "Too many programs wait to be let in: answer them in a browser, or try again in ten minutes.",
            retry_after_s=int(LIFETIME.total_seconds()),
        )
    device_code = secrets.token_urlsafe(32)
    while True:
        user_code = _new_user_code()
        if insert_new(
            session,
            DeviceLogin,
            hash=_hash(device_code),
            user_code=user_code,
            client=client[:200],
            address=address[:64],
            state="waiting",
            created_at=at,
            expires_at=at + LIFETIME,
        ):
            return Begun(device_code, user_code, int(LIFETIME.total_seconds()))


def find(session: Session, principal: Principal, user_code: str) -> DeviceView:
    """Who shows this code and waits. Raises NotFound."""
    found = _waiting(session, principal, user_code)
    return DeviceView(found.user_code, found.client, found.address, found.created_at)


def allow(session: Session, principal: Principal, user_code: str, *, is_to_read_only: bool = False) -> None:
    """Lets the program act for the principal. Raises NotFound."""
    scopes = READING if is_to_read_only else WORKING
    beyond = set(scopes) - principal.scopes
    if beyond or principal.restricted_to is not None:
        raise Forbidden("What you are signed in with may not do that itself: sign in again.", code="SCOPE_INSUFFICIENT")
    _answer(session, principal, user_code, "allowed", [scope.value for scope in scopes])


def deny(session: Session, principal: Principal, user_code: str) -> None:
    """Lets the program wait no longer. Raises NotFound."""
    _answer(session, principal, user_code, "denied", None)


def require_begun(session: Session, device_code: str) -> None:
    """Raises Gone for what is no code of a program that waits, or was."""
    if device_logins.by_hash(session, _hash(device_code), at=db.now(session)) is None:
        raise _over()


def require_answer(session: Session, device_code: str) -> None:
    """Returns when the program may `collect`. Raises Gone, Conflict while nobody has answered, Forbidden for a no."""
    found = device_logins.by_hash(session, _hash(device_code), at=db.now(session))
    if found is None:
        raise _over()
    if found.state == "waiting":
        raise Conflict("Nobody has answered yet: ask again in a few seconds.", code="AUTHORIZATION_PENDING")
    if found.state == "denied":
        raise Forbidden("This was refused in the browser: nobody is signed in.", code="ACCESS_DENIED")


def collect(session: Session, device_code: str) -> Collected:
    """The token that was allowed, once. Raises as `require_answer`."""
    require_answer(session, device_code)
    found = device_logins.by_hash(session, _hash(device_code), at=db.now(session))
    if found is None or found.account_id is None or not device_logins.take(session, found.hash):
        raise _over()
    account = session.get_one(Account, found.account_id)
    if account.deleted_at is not None:
        raise _over()
    scopes = tuple(Scope(each) for each in found.scopes or ())
    name = f"{found.client} at {found.address}"[:100]
    token, secret = accounts.add_token(
        session,
        account.id,
        TokenKind.PERSONAL,
        scopes=scopes,
        lifetime=LOGIN_LIFETIME,
        name=name,
        created_by_id=account.id,
    )
    facts = {"id": token.id, "name": name, "kind": "personal", "last4": token.last4, "scopes": token.scopes}
    record(session, None, Change.TOKEN_CREATED, account.name, facts)
    return Collected(account.name, secret, scopes, token.expires_at, int(LOGIN_LIFETIME.total_seconds()))


def _answer(session: Session, principal: Principal, user_code: str, state: str, scopes: list[str] | None) -> None:
    found = _waiting(session, principal, user_code)
    is_mine = device_logins.answer(
        session, found.hash, state=state, account_id=principal.account_id, scopes=scopes, at=db.now(session)
    )
    if not is_mine:
        raise _unknown(user_code)


def _waiting(session: Session, principal: Principal, user_code: str) -> DeviceLogin:
    require_user(principal)
    authorize(principal, Action.MANAGE_TOKENS)
    found = device_logins.by_user_code(session, spelled(user_code), at=db.now(session))
    if found is None:
        raise _unknown(user_code)
    return found


def spelled(user_code: str) -> str:
    """A code as it is kept, however somebody types it."""
    letters = "".join(char for char in user_code.upper() if char.isalnum())[:_LENGTH]
    return f"{letters[:4]}-{letters[4:]}"


def _new_user_code() -> str:
    return spelled("".join(secrets.choice(_LETTERS) for _ in range(_LENGTH)))


def _hash(device_code: str) -> bytes:
    return hashlib.sha256(device_code.encode()).digest()


def _unknown(user_code: str) -> NotFound:
    return NotFound(
        f"No program waits with the code {user_code[:20]}: it was answered or is too old, or you have mistyped it. "
        "Start again on the machine that showed it.",
        code="DEVICE_CODE_UNKNOWN",
    )


def _over() -> Gone:
    return Gone("This login took too long, or was collected already: start again.", code="DEVICE_CODE_EXPIRED")
