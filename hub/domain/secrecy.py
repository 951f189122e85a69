"""Who sees what single items of a suite are worth, and how many scores there are where nobody may.

public   what each item was answered and what that was worth is shown to whoever sees both evaluations
private  (unless a suite says something else) only scores are shown: outcomes of single items can tell right answers
hidden   as private; besides, nothing is evaluated unasked, and an owner, and whoever asks, has so many scores a day
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.auth.policy import Principal, Role
from hub.db.models.accounts import Account
from hub.db.models.evaluating import Suite
from hub.db.queries import accounts, evaluations
from hub.errors import TooMany

PUBLIC, PRIVATE, HIDDEN = "public", "private", "hidden"
ACCESSES = (PUBLIC, PRIVATE, HIDDEN)
# Every score tells something of the right answers: a few a day tell too little to learn them by.
SCORED_A_DAY = 5
_DAY = timedelta(days=1)


def access_of(suite: Suite) -> str:
    """Who sees what single items were worth."""
    return str(suite.definition.get("items", PRIVATE))


def charged(principal: Principal | None, owner: Account) -> list[int]:
    """Whose scores one counts for that `principal` asks for: theirs, and the owner's where they may push there, so that
    neither several owners nor strangers change how many there are. In the order in which they are held."""
    if principal is None:
        return [owner.id]
    role = principal.role_in(owner.name)
    return sorted({principal.account_id, owner.id} if role and role.covers(Role.PUBLISHER) else {principal.account_id})


def require_scores_left(session: Session, suite: Suite, account_ids: Sequence[int], *, at: datetime) -> None:
    """Raises TooMany when one of the accounts has had all scores of a hidden suite that a day has. What failed counts for
    nothing. The accounts are held until the transaction ends: two requests at once are counted one after another."""
    for account_id in account_ids:
        accounts.hold(session, account_id)
        since = evaluations.scored_since(session, suite.name, account_id, since=at - _DAY)
        if len(since) >= SCORED_A_DAY:
            raise _scored_often(suite, wait=max(1, round((since[-SCORED_A_DAY] + _DAY - at).total_seconds())))


def _scored_often(suite: Suite, *, wait: int) -> TooMany:
    return TooMany(
        f"The answers of {suite.name} are hidden, so that an owner, and whoever asks, has {SCORED_A_DAY} scores by it in 24 "
        f"hours, and had them: ask again in {wait // 3600} h {wait % 3600 // 60} min.",
        code="HIDDEN_SUITE_LIMIT",
        retry_after_s=wait,
        suite=suite.name,
    )
