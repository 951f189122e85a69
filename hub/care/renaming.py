"""`admin rename-base`: a base keeps the name that whoever registered it first gave it, until its hub's operator gives it another."""

from __future__ import annotations

from dataclasses import dataclass

from hub.db.queries import adapters
from hub.db.session import Database
from hub.domain import bases, finding

# Short transactions: a long one would keep a database in use from being written to.
_AT_ONCE = 50


@dataclass(frozen=True)
class Renamed:
    """What a base was called, and how many adapters are found by its new name."""

    before: str
    adapters: int


def rename(database: Database, fingerprint: str, name: str) -> Renamed:
    """Gives a base another name, and lists its adapters by it. Its fingerprint, manifests and cards stay what they are. Twice
    is the same as once. Raises NotFound, and Invalid for a name that cannot be shown."""
    with database.writing() as session:
        base_id, before = bases.rename(session, fingerprint, name)
    count, last = 0, 0
    while True:
        with database.writing() as session:
            some = adapters.hold_on_base(session, base_id, _AT_ONCE, after=last)
            for adapter in some:
                finding.relist(session, adapter)
            count, last = count + len(some), some[-1].id if some else 0
        if len(some) < _AT_ONCE:
            return Renamed(before, count)
