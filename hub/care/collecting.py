"""`admin gc`: clears away blobs that nothing refers to, and stored pairs that no version uses, beside a hub in use.

What is new stays for a grace period: a push puts its objects before the transaction that records them. Rows are
locked before they are looked at again, a push holds the rows of the blobs it uses (`queries.blobs.insert`), and an
object that goes is named in `removed_objects` first, so that a push that found it there puts it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from hub.db import session as db
from hub.db.queries import keeping, kept_answers, webhooks
from hub.db.session import Database
from hub.domain.deliveries import KEPT
from hub.storage.objects import ObjectBlobs

GRACE = timedelta(hours=24)
_AT_ONCE = 200
# A push that is older than this has long been given up.
_REMEMBERED = timedelta(days=1)


@dataclass
class Cleared:
    """How much went, or would go."""

    blobs: int = 0
    size_bytes: int = 0


def collect(
    database: Database, objects: ObjectBlobs | None, *, grace: timedelta = GRACE, is_rehearsal: bool = False
) -> Cleared:
    """Clears away what nothing has referred to for as long as `grace`. A rehearsal only counts."""
    with database.writing() as session:
        now = db.now(session)
        keeping.forget_removed(session, now - _REMEMBERED)
        webhooks.forget_before(session, now - KEPT)
        kept_answers.forget_before(session, now - kept_answers.KEPT)
        unfinished = keeping.being_removed(session)
    cleared = Cleared()
    if is_rehearsal:
        _count(database, objects, now - grace, cleared)
        return cleared
    if objects is not None:
        _remove(database, objects, unfinished)  # what an earlier one was stopped at
        _adopt_strays(database, objects, now - grace)
    while _drop_pairs(database, now - grace):
        pass
    while _clear_some(database, objects, now - grace, cleared):
        pass
    return cleared


def _drop_pairs(database: Database, before: datetime) -> bool:
    """Drops some of the pairs that no version uses, and says whether there may be more. Their pieces go as blobs."""
    with database.writing() as session:
        return keeping.delete_unused_pairs(session, before, limit=_AT_ONCE) == _AT_ONCE


def _clear_some(database: Database, objects: ObjectBlobs | None, before: datetime, cleared: Cleared) -> bool:
    """Clears some away, and says whether there may be more."""
    with database.writing() as session:
        found = {row.sha256: row for row in keeping.hold_unneeded(session, before, limit=_AT_ONCE)}
        gone = keeping.delete_unneeded(session, list(found))
        outside = [each for each in gone if found[each].data is None]
        keeping.note_removing(session, outside)
    cleared.blobs += len(gone)
    cleared.size_bytes += sum(found[each].size_bytes for each in gone)
    if objects is not None:
        _remove(database, objects, outside)
    return bool(gone)


def _remove(database: Database, objects: ObjectBlobs, sha256s: list[str]) -> None:
    for each in sha256s:
        objects.remove(each)
        with database.writing() as session:
            keeping.note_removed(session, each, at=db.now(session))


def _adopt_strays(database: Database, objects: ObjectBlobs, before: datetime) -> None:
    """Gives old objects that no row names a row, which is then cleared away like any other."""
    strays = (each for each in objects.stored() if each.modified_at < before)
    while some := list(islice(strays, _AT_ONCE)):
        with database.writing() as session:
            known = keeping.names_of(session, [each.sha256 for each in some])
            for each in some:
                if each.sha256 not in known:
                    keeping.adopt(session, each.sha256, each.size_bytes, at=each.modified_at)


def _count(database: Database, objects: ObjectBlobs | None, before: datetime, cleared: Cleared) -> None:
    with database.reading() as session:
        for pair in keeping.unused_pairs(session, before):
            cleared.blobs += pair.pieces
            cleared.size_bytes += pair.size_bytes
        for row in keeping.unneeded(session, before):
            cleared.blobs += 1
            cleared.size_bytes += row.size_bytes
        for each in objects.stored() if objects is not None else ():
            if each.modified_at < before and not keeping.names_of(session, [each.sha256]):
                cleared.blobs += 1
                cleared.size_bytes += each.size_bytes
