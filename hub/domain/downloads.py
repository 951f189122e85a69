"""How often an adapter is downloaded: everybody counts once for a version and a day.

A download is a fetch of a version's weights. The request only puts a note into memory; the notes are written all
together every few seconds and when the server stops. What a killed server had not written yet is lost.

An address is kept nowhere: for a day as a hash with that day's salt, which is thrown away the day after.
"""

from __future__ import annotations

import hmac
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from threading import Lock

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.queries import downloads, listings
from hub.db.session import Database
from hub.domain.catalog import find_adapter
from hub.domain.shaping import adapter_id
from hub.domain.views.record import DownloadsView, VersionDownloads
from vera.manifest import WEIGHTS_FILE

FLUSH_EVERY_S = 5.0
# Notes in memory while the database does not take them: beyond it, new ones are dropped and nothing else is.
_MAX_PENDING = 200_000


@dataclass(frozen=True)
class _Note:
    """Somebody has fetched the file `sha256` of an adapter."""

    day: date
    adapter_id: int
    sha256: str
    who: str


def _today() -> date:
    return datetime.now(UTC).date()


class DownloadCounter:
    """Counts downloads of one database. `note` takes a microsecond; `flush` writes what was noted since the last."""

    def __init__(self, database: Database, *, today: Callable[[], date] = _today) -> None:
        self._database, self._today = database, today
        self._pending: set[_Note] = set()
        self._lock = Lock()

    def note(self, principal: Principal | None, address: str, adapter_id: int, sha256: str) -> None:
        """Remembers that a file of an adapter was fetched. A worker is no reader, and does not count."""
        if principal is not None and principal.kind == "worker":
            return
        who = f"address {address}" if principal is None else f"account {principal.account_id}"
        note = _Note(self._today(), adapter_id, sha256, who)
        with self._lock:
            if len(self._pending) < _MAX_PENDING:
                self._pending.add(note)

    def flush(self) -> None:
        """Writes what was noted. When that fails, it raises and nothing is lost: the next flush writes it."""
        with self._lock:
            notes, self._pending = self._pending, set()
        if not notes:
            return
        try:
            with self._database.writing() as session:
                _count(session, notes, self._today())
        except BaseException:
            with self._lock:
                self._pending |= notes
            raise


def of_adapter(session: Session, reader: Principal | None, namespace: str, name: str, *, days: int) -> DownloadsView:
    """How often an adapter was downloaded ever, and by version on each of the last `days`. Raises NotFound."""
    adapter = find_adapter(session, reader, namespace, name)
    rows = downloads.by_day(session, adapter.id, since=_today() - timedelta(days=days - 1))
    return DownloadsView(
        id=adapter_id(adapter),
        total=downloads.total(session, adapter.id),
        days=tuple(VersionDownloads(day=row.day, version=row.number, count=row.downloads) for row in rows),
    )


def _count(session: Session, notes: Iterable[_Note], today: date) -> None:
    by_version = _by_version(session, notes)
    salts = {
        day: downloads.salt_of(session, day, fresh=secrets.token_bytes(32)) for day in {day for day, _ in by_version}
    }
    for (day, version_id), people in sorted(by_version.items()):
        fresh = downloads.note_downloaders(session, day, version_id, (_hash(salts[day], who) for who in people))
        if fresh:
            downloads.add(session, version_id, day, fresh)
            listings.add_downloads(session, version_id, fresh)
    downloads.forget_before(session, today - timedelta(days=1))


def _by_version(session: Session, notes: Iterable[_Note]) -> dict[tuple[date, int], set[str]]:
    """Who has fetched the weights of which version on which day. Two versions may have the same weights: the newer counts."""
    found: dict[tuple[date, int], set[str]] = defaultdict(set)
    versions: dict[tuple[int, str], int | None] = {}
    for note in notes:
        key = note.adapter_id, note.sha256
        if key not in versions:
            versions[key] = downloads.newest_version_with(session, note.adapter_id, WEIGHTS_FILE, note.sha256)
        if (version_id := versions[key]) is not None:
            found[note.day, version_id].add(note.who)
    return found


def _hash(salt: bytes, who: str) -> bytes:
    return hmac.digest(salt, who.encode(), "sha256")[:16]
