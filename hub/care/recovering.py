"""`admin recover`: lets an admin in who has lost the password, every token, or both. Whoever can run it can read the
database anyway."""

from __future__ import annotations

from hub.auth.policy import Principal
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models.accounts import Account
from hub.db.queries import accounts as account_rows
from hub.db.queries import tokens as token_rows
from hub.db.session import Database
from hub.domain import accounts
from hub.domain.audit import Change, record
from hub.domain.users import BOOTSTRAP_LIFETIME
from hub.domain.views.accounts import CodeView
from hub.errors import Conflict, NotFound

# In the record, in the place of a user.
ACTOR = "admin recover"
_OPERATOR = Principal(0, 0, ACTOR, "user", frozenset())


def recover(
    database: Database, name: str | None = None, *, makes_admin: bool = False, ends_tokens: bool = False
) -> CodeView:
    """A code with which the admin `name`, or the only one there is, signs in within the hour. The password and the
    sessions of before are good no longer, and no token is where `ends_tokens`.

    Raises NotFound for who is no user, and Conflict for who is no admin, unless `makes_admin`, or when it is not said
    which of several is meant.
    """
    with database.writing() as session:
        admins = account_rows.admins(session)
        account = account_rows.find(session, name or _only(admins), "user")
        if account is None:
            raise NotFound(f"There is no user {name} here: check the name.", code="USER_UNKNOWN", user=name)
        _require_admin(account, admins, makes_admin=makes_admin)
        at = db.now(session)
        account.is_admin, account.password_hash = True, None
        for kind in (None,) if ends_tokens else (TokenKind.SESSION, TokenKind.BOOTSTRAP):
            token_rows.revoke_all(session, account.id, kind, at=at)
        token, secret = accounts.add_token(
            session, account.id, TokenKind.BOOTSTRAP, scopes=(), lifetime=BOOTSTRAP_LIFETIME
        )
        facts = {"recovered": True, "made_admin": account.name not in admins, "ended_tokens": ends_tokens}
        record(session, _OPERATOR, Change.USER_CODE_MADE, account.name, facts)
        return CodeView(user=account.name, code=secret, expires_at=token.expires_at)


def _only(admins: list[str]) -> str:
    if len(admins) == 1:
        return admins[0]
    raise Conflict(
        f"This hub has {len(admins) or 'no'} admins{': ' if admins else ''}{', '.join(admins[:20])}: say who is to be "
        "let in" + ("." if admins else ", and with --make-admin make them one."),
        code="USER_MISSING",
        admins=admins[:20],
    )


def _require_admin(account: Account, admins: list[str], *, makes_admin: bool) -> None:
    if account.name in admins or makes_admin:
        return
    raise Conflict(
        f"{account.name} is no admin here ({', '.join(admins[:20]) or 'nobody is'}): an admin can give them a code with "
        "`vera-hub user code`, and --make-admin makes them one.",
        code="ADMIN_ONLY",
        user=account.name,
        admins=admins[:20],
    )
