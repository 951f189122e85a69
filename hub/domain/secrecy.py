"""Who sees what single items of a suite are worth, and how often an owner is scored where nobody may.

public   what each item was answered and what that was worth is shown to whoever sees both evaluations
private  (unless a suite says something else) only scores are shown: outcomes of single items can tell right answers
hidden   as private; besides, nothing is evaluated unasked, and an owner is scored so many times a day
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.db.models.evaluating import Suite
from hub.db.queries import evaluations
from hub.errors import TooMany

PUBLIC, PRIVATE, HIDDEN = "public", "private", "hidden"
ACCESSES = (PUBLIC, PRIVATE, HIDDEN)
# Every score tells something of the right answers: a few a day tell too little to learn them by.
SCORED_A_DAY = 5
_DAY = timedelta(days=1)


def access_of(suite: Suite) -> str:
    """Who sees what single items were worth."""
    return str(suite.definition.get("items", PRIVATE))


def require_scores_left(session: Session, suite: Suite, owner_id: int, *, at: datetime) -> None:
    """Raises TooMany when the owner has had all scores of a hidden suite that a day has. What failed counts for nothing."""
    if access_of(suite) != HIDDEN:
        return
    since = evaluations.scored_since(session, suite.name, owner_id, since=at - _DAY)
    if len(since) >= SCORED_A_DAY:
        wait = max(1, round((since[-SCORED_A_DAY] + _DAY - at).total_seconds()))
        raise TooMany(
            f"The answers of {suite.name} are hidden, so that an owner is scored by it {SCORED_A_DAY} times in 24 hours, and was: "
            f"ask again in {wait // 3600} h {wait % 3600 // 60} min.",
            code="HIDDEN_SUITE_LIMIT",
            retry_after_s=wait,
            suite=suite.name,
        )
