"""What everybody asks is looked up, however much there is: no such question reads all of a large table.

SQLite says how it goes about a query, and without statistics says the same of an empty database as of a full one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from tests.builders import make_archive
from tests.hub.harness import Hub

LARGE = (
    "adapters",
    "versions",
    "version_files",
    "evaluations",
    "listing_terms",
    "listing_scores",
    "audit_events",
    "tokens",
)
# An index of few rows of a large table.
PARTIAL = "ix_adapters_private"


@pytest.fixture
def scored(sqlite_hub: Hub) -> Hub:
    """demo/tiny with a score, and demo/other that waits for its."""
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    assert worker.finish(worker.must_claim()).status_code == 204
    sqlite_hub.push(make_archive(seed=1), "other")
    return sqlite_hub


@contextmanager
def read_through(hub: Hub) -> Iterator[set[str]]:
    """The large tables that are read through from their beginning in this block."""
    found: set[str] = set()

    def explain(connection: Any, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            raw = connection.connection.driver_connection
            steps = [step for *_, step in raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            of_few = {step for step in steps if step.endswith(PARTIAL)}
            found.update(
                table for table in LARGE for step in steps if step.startswith(f"SCAN {table}") and step not in of_few
            )

    event.listen(hub.database.engine, "after_cursor_execute", explain)
    try:
        yield found
    finally:
        event.remove(hub.database.engine, "after_cursor_execute", explain)


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize(
    "address",
    [
        "/",
        "/demo/tiny",
        "/api/v1/adapters",
        "/api/v1/adapters?search=zzz",
        "/api/v1/adapters/facets?search=zzz",
        "/api/v1/adapters/demo/tiny",
        "/api/v1/adapters/demo/tiny/versions/v1",
        "/api/v1/adapters/demo/tiny/feed",
        "/api/v1/evaluations/1",
        "/api/v1/evaluations/2",
        "/api/v1/leaderboards/demo/topics",
        "/api/v1/leaderboards/demo/topics/history",
        "/api/v1/bases",
    ],
)
def test_nothing_that_everybody_asks_reads_all_there_is(scored: Hub, address: str, *, is_known: bool) -> None:
    headers = scored.headers() if is_known else {}
    with read_through(scored) as tables:
        assert scored.client.get(address, headers=headers).status_code == 200

    assert tables == set()


def test_who_asks_a_mirror_with_a_token_is_known_without_reading_all_adapters(scored: Hub) -> None:
    scored.database.share_mirrored()

    with read_through(scored) as found:
        assert scored.get("/whoami", headers=scored.headers()).status_code == 200

    assert found == set()
