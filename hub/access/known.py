"""Whom tokens speak for, known until anybody commits anything.

A principal is kept with the database's stamp of before it was read, as answers are (`hub.access.answers`), and is good for
as long as the stamp is the same: a token that is revoked and a role that is taken away are commits. What time alone ends,
the token itself or the minute for which its use needs no note, is looked at each time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from hub.auth.policy import Principal
from hub.domain.accounts import SignedIn

MAX_KNOWN = 1_000


def _now() -> datetime:
    return datetime.now(UTC)


class KnownTokens:
    """Principals by the hash of their token: no token is kept in memory. To be used from one thread."""

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        self._clock = clock
        self._stamp: int | None = None
        self._known: dict[bytes, SignedIn] = {}

    def find(self, token_hash: bytes, stamp: int | None) -> Principal | None:
        """Whom the token speaks for, if that is known and the database is what it was."""
        known = self._known.get(token_hash) if stamp is not None and stamp == self._stamp else None
        return known.principal if known is not None and self._clock() < known.holds_until else None

    def keep(self, token_hash: bytes, stamp: int | None, signed_in: SignedIn) -> None:
        """`stamp` is the one of before the database was asked; without one nothing is kept."""
        if stamp is None:
            return
        if stamp != self._stamp or len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._stamp = stamp
        self._known[token_hash] = signed_in
