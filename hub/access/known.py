"""Whom tokens speak for, known until anybody commits anything.

A principal is kept with the database's stamp of before it was read, as answers are (`hub.access.answers`), and is good for
as long as the stamp is the same: a token that is revoked and a role that is taken away are commits. What time alone ends,
the token itself or the minute for which its use needs no note, is looked at each time.

Pushes are commits themselves, so that nobody who pushes would ever be known: whom a token spoke for a second ago is good
enough to take in a body of which the transaction that keeps it asks anew.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hub.auth.policy import Principal
from hub.domain.accounts import SignedIn

MAX_KNOWN = 1_000
LATELY = timedelta(seconds=1)


def _now() -> datetime:
    return datetime.now(UTC)


class _Known(NamedTuple):
    signed_in: SignedIn
    stamp: int | None
    at: datetime


class KnownTokens:
    """Principals by the hash of their token: no token is kept in memory. To be used from one thread."""

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        self._clock = clock
        self._known: dict[bytes, _Known] = {}

    def find(self, token_hash: bytes, stamp: int | None) -> Principal | None:
        """Whom the token speaks for, if that is known and the database is what it was."""
        known = self._known.get(token_hash)
        is_as_it_was = known is not None and stamp is not None and stamp == known.stamp
        return self._unless_over(known) if is_as_it_was else None

    def find_lately(self, token_hash: bytes) -> Principal | None:
        """Whom the token spoke for a second ago or less, whatever was committed since."""
        known = self._known.get(token_hash)
        is_recent = known is not None and self._clock() - known.at <= LATELY
        return self._unless_over(known) if is_recent else None

    def keep(self, token_hash: bytes, stamp: int | None, signed_in: SignedIn) -> None:
        """`stamp` is the one of before the database was asked."""
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        self._known[token_hash] = _Known(signed_in, stamp, self._clock())

    def _unless_over(self, known: _Known | None) -> Principal | None:
        return known.signed_in.principal if known is not None and self._clock() < known.signed_in.holds_until else None
