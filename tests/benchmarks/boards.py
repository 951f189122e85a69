"""A board of ten thousand scored versions under load: `--only boards` of `tests.benchmarks.registry`."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import statistics
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from hub.scoring.statistics import wilson_interval
from hub.settings import DATABASE_FILE
from tests.benchmarks import seeding
from tests.benchmarks.wrk import Row, load
from tests.hub.processes import Server, serving

VERSIONS, ITEMS = 10_000, 400
BOARD, PAGE = "/api/v1/leaderboards/glue/task-1", "/leaderboards/glue/task-1"
GOAL = "500/s"
ONE_BY_ONE = 10


def rows(folder: Path) -> Iterator[Row]:
    """The best 500 of the board, as often as they can be had and while somebody commits; all of it, and its page."""
    file = folder / "data" / DATABASE_FILE
    file.parent.mkdir(parents=True, mode=0o700)
    seeding.seed(file, VERSIONS)
    _score(file)
    with serving(folder) as server:
        best = f"{server.url}{BOARD}?limit=500"
        etag = _first(f"the best 500 of {VERSIONS:,}", best)
        yield _loaded(server, f"a board of {VERSIONS:,}: the best 500", best)
        yield _loaded(server, "asked again (304)", best, {"If-None-Match": etag})
        with _committing(file):
            yield _loaded(server, "the best 500, while somebody commits every second", best)
        _first(f"all {VERSIONS:,}", f"{server.url}{BOARD}")
        yield _one_by_one(server, f"all {VERSIONS:,}, one after another", f"{server.url}{BOARD}")
        yield _one_by_one(server, "its page, one after another", f"{server.url}{PAGE}")


def _loaded(server: Server, what: str, url: str, headers: dict[str, str] | None = None) -> Row:
    with _worked(server, what) as done:
        row = load(what, url, headers or {}, GOAL)
        done.append(row.requests)
    return row


def _one_by_one(server: Server, what: str, url: str) -> Row:
    times = []
    with _worked(server, what) as done, httpx2.Client(timeout=120) as client:
        for _ in range(ONE_BY_ONE):
            began = time.perf_counter()
            assert client.get(url).status_code == 200
            times.append(1000 * (time.perf_counter() - began))
        done.append(ONE_BY_ONE)
    return Row(what, 1000 / statistics.mean(times), statistics.median(times), max(times))


@contextmanager
def _worked(server: Server, what: str) -> Iterator[list[int]]:
    """Says how long the server's processor worked for each of as many requests as the list is told: on a machine that others
    use too that says more than how many there were."""
    before, done = _processor_s(server), list[int]()
    yield done
    each = 1000 * (_processor_s(server) - before) / max(1, sum(done))
    print(f"{what}: {each:.2f} ms of the server's processor each", file=sys.stderr)


def _processor_s(server: Server) -> float:
    spent = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return sum(map(int, spent)) / os.sysconf("SC_CLK_TCK")


def _score(file: Path) -> None:
    """Scores the latest version of every adapter by the first suite."""
    draw, connection = random.Random(7), sqlite3.connect(file)
    connection.execute("UPDATE suites SET items = ?", (ITEMS,))
    latest = connection.execute("SELECT listings.version_id, listings.account_id FROM listings").fetchall()
    connection.executemany(
        "INSERT INTO evaluations (version_id, suite_id, owner_id, spec, spec_digest, state, fence, attempts, score, low,"
        " high, outcomes, environment, seconds, created_at, finished_at)"
        " VALUES (?, 1, ?, '{}', ?, 'done', 1, 1, ?, ?, ?, ?, '{}', 1.5, ?, ?)",
        (_evaluation(version, owner, draw) for version, owner in latest),
    )
    connection.commit()
    connection.close()


def _evaluation(version: int, owner: int, draw: random.Random) -> tuple[object, ...]:
    share = draw.uniform(0.5, 0.95)
    outcomes = [int(draw.random() < share) for _ in range(ITEMS)]
    packed = zlib.compress(json.dumps(outcomes, separators=(",", ":")).encode(), 6)
    score = sum(outcomes) / ITEMS
    return version, owner, f"sha256:{version:064x}", score, *wilson_interval(outcomes), packed, seeding.NOW, seeding.NOW


def _first(what: str, url: str) -> str:
    """The ETag of the answer to the first request, when nothing is known yet."""
    began = time.perf_counter()
    answer = httpx2.get(url, timeout=120)
    assert answer.status_code == 200, answer.text
    print(
        f"{what}, the first time: {time.perf_counter() - began:.2f} s, {len(answer.content):,} bytes", file=sys.stderr
    )
    return str(answer.headers["etag"])


@contextmanager
def _committing(file: Path) -> Iterator[None]:
    """Meanwhile something is written every second, after which no answer that was given before holds."""
    over = threading.Event()

    def commit() -> None:
        connection = sqlite3.connect(file, isolation_level=None, timeout=30)
        while not over.wait(1.0):
            connection.execute("UPDATE listings SET downloads = downloads + 1 WHERE id = 1")
        connection.close()

    thread = threading.Thread(target=commit)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
