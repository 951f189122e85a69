"""How a hub is, in numbers that its database knows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.db import session as db
from hub.db.queries import measuring
from hub.domain.matching import WORKER_SILENCE

# A worker of which nothing was heard for longer has been taken away, and is missed by nobody.
FORGOTTEN = timedelta(days=1)


@dataclass(frozen=True)
class Measured:
    """`jobs` by what they are: "waiting", "running" or "failed"; `workers`: "there", or "silent" since less than a day.
    `oldest_waiting_s` is 0 where nothing waits."""

    jobs: Mapping[str, int]
    oldest_waiting_s: float
    workers: Mapping[str, int]
    files: int
    database_bytes: int


def measure(session: Session) -> Measured:
    """The numbers of now."""
    now = db.now(session)
    oldest, there_since = measuring.oldest_free_job(session, now), now - WORKER_SILENCE
    return Measured(
        jobs={
            "waiting": measuring.count_free_jobs(session, now),
            "running": measuring.count_held_jobs(session, now),
            "failed": measuring.count_failed_jobs(session),
        },
        oldest_waiting_s=(now - oldest).total_seconds() if oldest else 0,
        workers={
            "there": measuring.count_workers(session, since=there_since),
            "silent": measuring.count_workers(session, since=now - FORGOTTEN, until=there_since),
        },
        files=measuring.count_files(session),
        database_bytes=measuring.database_bytes(session),
    )


def bytes_outside(session: Session) -> int:
    """What is in the object store, if there is one. Takes seconds where there are many files."""
    return measuring.object_bytes(session)
