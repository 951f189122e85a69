"""Downloads: who was counted for what on which day, and how many that makes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

from sqlalchemy import bindparam, delete, func, select, update
from sqlalchemy.orm import Session

from hub.db.models.record import DownloadCount, DownloadDay, Downloader
from hub.db.models.versions import Version, VersionFile
from hub.db.queries.inserting import insert_new, insert_rows

# Made once, and past the unit of work: they are for every download.
_NEWEST_WITH = (
    select(Version.id)
    .join(VersionFile, VersionFile.version_id == Version.id)
    .where(
        Version.adapter_id == bindparam("adapter_id"),
        VersionFile.path == bindparam("path"),
        VersionFile.sha256 == bindparam("sha256"),
    )
    .order_by(Version.number.desc())
    .limit(1)
)
_COUNTS = DownloadCount.__table__.c
_MORE = (
    update(DownloadCount.__table__)  # type: ignore[arg-type]  # it is a Table
    .where(_COUNTS.version_id == bindparam("of_version"), _COUNTS.day == bindparam("on_day"))
    .values(count=_COUNTS["count"] + bindparam("more"))
)


class DayRow(NamedTuple):
    day: date
    number: int
    downloads: int


def newest_version_with(session: Session, adapter_id: int, path: str, sha256: str) -> int | None:
    """The id of the adapter's newest version whose file `path` has this hash."""
    return session.scalar(_NEWEST_WITH, {"adapter_id": adapter_id, "path": path, "sha256": sha256})


def salt_of(session: Session, day: date, *, fresh: bytes) -> bytes:
    """What the day's addresses are hashed with: `fresh`, unless somebody came before."""
    insert_new(session, DownloadDay, day=day, salt=fresh)
    return session.scalars(select(DownloadDay.salt).where(DownloadDay.day == day)).one()


def note_downloaders(session: Session, day: date, version_id: int, who: Iterable[bytes]) -> int:
    """How many of `who` had not been counted for this version on this day, and now are."""
    rows = [{"day": day, "version_id": version_id, "who": each} for each in sorted(set(who))]
    return insert_rows(session, Downloader, rows)


def add(session: Session, version_id: int, day: date, count: int) -> None:
    insert_new(session, DownloadCount, version_id=version_id, day=day, count=0)
    session.execute(_MORE, {"of_version": version_id, "on_day": day, "more": count})


def forget_before(session: Session, day: date) -> None:
    """Forgets who has downloaded, and not how many."""
    session.execute(delete(Downloader).where(Downloader.day < day))
    session.execute(delete(DownloadDay).where(DownloadDay.day < day))


def total(session: Session, adapter_id: int) -> int:
    query = select(func.sum(DownloadCount.count)).join(Version, Version.id == DownloadCount.version_id)
    return int(session.scalar(query.where(Version.adapter_id == adapter_id)) or 0)


def by_day(session: Session, adapter_id: int, *, since: date) -> list[DayRow]:
    """The counts of every version, day by day."""
    query = (
        select(DownloadCount.day, Version.number, DownloadCount.count)
        .join(Version, Version.id == DownloadCount.version_id)
        .where(Version.adapter_id == adapter_id, DownloadCount.day >= since)
        .order_by(DownloadCount.day, Version.number)
    )
    return [DayRow(*row) for row in session.execute(query)]
