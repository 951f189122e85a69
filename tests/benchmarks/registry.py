"""`make bench-registry`: how fast a hub answers, and how it searches a hundred thousand adapters.

The hub is a process of its own, as `vera-hub serve` starts it; the load comes from `wrk` (a package of Debian) over
16 connections, on the same machine. `--only serving`, `replicas`, `clients`, `peers`, `boards` or `searching` is a part
(ours come with the peers), `--json` the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import httpx2

from hub.settings import DATABASE_FILE
from tests.benchmarks import boards, clients, peers, pushing, seeding, wrk
from tests.benchmarks.peers import METADATA, PULL, PUSH, SEARCH, Artifact
from tests.benchmarks.wrk import CONNECTIONS, Row
from tests.benchmarks.wrk import load as _load
from tests.hub.processes import Server, serving
from vera.manifest import CARD_FILE, MANIFEST_FILE, WEIGHTS_FILE

ADAPTERS = 100_000
SEARCHES = 200
PAGES = 1_000

# One word that many have and one that few have, and each way to narrow down and to sort.
QUERIES = (
    "",
    "search=adapter",
    "search=ba",
    "search=adapter+llama",
    "search=zu-zu",
    "search=adapter&sort=name",
    "search=vectors&sort=downloads",
    "base=meta-llama/Llama-2-7b&sort=name",
    "tag=tag-3&sort=downloads",
    "tag=tag-150",
    "family=vit&license=mit&min_rank=512",
    "max_bytes=212000&sort=name",
    "task=text-generation&owner=owner-7",
    "suite=glue/task-1&sort=score",
    "suite=glue/task-2&sort=bytes-per-point&search=adapter",
    "search=no-such-word-anywhere",
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.registry")
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--adapters", type=int, default=ADAPTERS)
    parser.add_argument("--seed", type=Path, help="keep the large database in this folder, and use it again")
    parser.add_argument("--peers", type=Path, help="keep the installed peers in this folder, and use them again")
    parser.add_argument("--processes", default="1", help="of the hub under load")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-registry-") as scratch:
        folder = Path(scratch)
        wrk.provide(folder)
        for name, part in PARTS.items():
            if arguments.only in (None, name) or (arguments.only, name) == ("peers", "serving"):
                for row in part(folder / name, arguments):
                    print(f"{row.what}: {row.per_second or 0:,.0f}/s, p99 {row.p99_ms:.1f} ms", file=sys.stderr)
                    rows.append(row)
    _print(rows, as_json=arguments.json)


def searching(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """Searches of a large registry, one after another and each in a request of its own."""
    data = (arguments.seed or folder).resolve()
    file = data / "data" / DATABASE_FILE
    if not file.exists():
        file.parent.mkdir(parents=True, mode=0o700)
        seeding.seed(file, arguments.adapters)
    with serving(data) as server, httpx2.Client(base_url=server.url) as client:
        what = f"of {arguments.adapters:,} adapters"
        # Each asked once: what was asked a second ago would be given again, and nothing searched.
        paths = [
            f"/api/v1/adapters?limit={50 - each}&{query}"
            for each in range(SEARCHES // len(QUERIES) + 1)
            for query in QUERIES
        ]
        first, paths = paths[: len(QUERIES)], paths[len(QUERIES) :]
        yield _row(f"the first search of each kind since the start {what}", [_milliseconds(client, p) for p in first])
        before = pushing.cpu_seconds(server)
        yield _row(f"search {what}", [_milliseconds(client, path) for path in paths], "p99 50 ms")
        spent = pushing.cpu_seconds(server) - before
        print(f"CPU time of a search: {1000 * spent / len(paths):.1f} ms on average", file=sys.stderr)
        yield _row(f"page 1 to {PAGES:,} {what}", list(_walk(client, "")), "")
        yield _row(f"the last ten of these pages {what}", list(_walk(client, ""))[-10:], "p99 50 ms")
        unsorted = [re.sub(r"&?sort=[^&]*", "", query) for query in QUERIES[:12]]
        facets = [f"/api/v1/adapters/facets?{query}" for query in unsorted] * 3
        yield _row(f"facets {what}", [_milliseconds(client, path) for path in facets])


def serving_row(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """A hub with one version of 172 KB, under load."""
    folder.mkdir()
    yield from _floors(folder)
    with serving(folder, "--processes", arguments.processes) as server:
        pushing.wait_for_processes(server, int(arguments.processes))
        yield from _under_load(folder, server)


def clients_waiting(folder: Path, _: argparse.Namespace) -> Iterator[Row]:
    """One client and an idle hub."""
    folder.mkdir()
    first = pushing.measured()
    with serving(folder / "hub") as server:
        token = {"Authorization": f"Bearer {server.login()['token']}"}
        with httpx2.Client(base_url=server.url, headers=token, timeout=30) as client:
            user = pushing.known(client)
        yield from clients.rows(
            server, folder, user, [pushing.another(first, number) for number in range(2 * clients.TURNS)]
        )


def peers_beside(folder: Path, arguments: argparse.Namespace) -> Iterator[Row]:
    """The peers, given the same files."""
    folder = (arguments.peers or folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    files = pushing.measured().files
    yield from peers.beside(folder, Artifact(files[WEIGHTS_FILE], files[MANIFEST_FILE], files[CARD_FILE]))


def replicas(folder: Path, _: argparse.Namespace) -> Iterator[Row]:
    """Pushes to two hubs."""
    yield from pushing.by_replicas(folder)


def large_board(folder: Path, _: argparse.Namespace) -> Iterator[Row]:
    """A board of ten thousand versions."""
    yield from boards.rows(folder)


PARTS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Row]]] = {
    "serving": serving_row,
    "replicas": replicas,
    "clients": clients_waiting,
    "peers": peers_beside,
    "boards": large_board,
    "searching": searching,
}


def _under_load(folder: Path, server: Server) -> Iterator[Row]:
    token = {"Authorization": f"Bearer {server.login()['token']}"}
    pushed = pushing.bodies(folder / "bodies")
    with httpx2.Client(base_url=server.url, headers=token, timeout=30) as client:
        user = pushing.known(client)
        versions = f"/api/v1/adapters/{user}/measured/versions"
        version = client.post(versions, content=(pushed / "0").read_bytes(), headers=pushing.MULTIPART).json()
        etag = client.get(f"{versions}/v1").headers["etag"]
    weights = max(version["files"], key=lambda file: file["size_bytes"])
    metadata, blob = (
        f"{server.url}{versions}/v1",
        f"{server.url}/api/v1/adapters/{user}/measured/blobs/{weights['sha256']}",
    )
    print(f"idle: {_resident_mb(server):.0f} MB", file=sys.stderr)
    yield _load("a version's metadata, with a token", metadata, token, "2,000/s, p99 25 ms", kind=METADATA)
    yield _load("the same, without", metadata, {})
    yield _load("asked again (304)", metadata, {**token, "If-None-Match": etag}, "3,000/s")
    yield _load(f"pull of {weights['size_bytes'] // 1000} KB by digest", blob, {}, "2,500/s", kind=PULL)
    yield _load("a search", f"{server.url}/api/v1/adapters?search=measured", {}, kind=SEARCH)
    for connections, first, kind in ((CONNECTIONS, 0, PUSH), (1, pushing.PUSHES - 1_000, "")):
        script, what = pushing.script_from(first, pushed, user), f"durable push, {connections} at a time"
        yield pushing.under_load(server, script, token, what, connections=connections, kind=kind)
    print(f"after it all: {_resident_mb(server):.0f} MB", file=sys.stderr)


# -- Floors ---------------------------------------------------------------------------------------

_BARE = """
import sys, uvicorn
from fastapi import FastAPI, Response
app, body = FastAPI(), b"x" * 2500
@app.get("/")
async def ready() -> Response:
    return Response(body, media_type="application/json")
uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""


def _floors(folder: Path) -> Iterator[Row]:
    """The least it could be: ready bytes through the framework alone, and a commit that holds as many bytes."""
    with subprocess.Popen([sys.executable, "-c", _BARE, "8765"]) as bare:
        try:
            _wait_for("http://127.0.0.1:8765/")
            yield _load("floor: ready bytes from FastAPI", "http://127.0.0.1:8765/", {})
        finally:
            bare.terminate()
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (data BLOB)")
    data, times = os.urandom(174_000), []
    for _ in range(500):
        began = time.perf_counter()
        connection.execute("INSERT INTO t VALUES (?)", (data,))
        times.append(1000 * (time.perf_counter() - began))
    yield _row("floor: commit and fsync of 174 KB", times)


def _walk(client: httpx2.Client, query: str) -> Iterator[float]:
    """The milliseconds of each page from the first on."""
    cursor = ""
    for _ in range(PAGES):
        began = time.perf_counter()
        answer = client.get(f"/api/v1/adapters?limit=50&{query}{cursor}")
        yield 1000 * (time.perf_counter() - began)
        following = answer.json()["next"]
        if following is None:
            return
        cursor = f"&cursor={following}"


def _milliseconds(client: httpx2.Client, path: str) -> float:
    began = time.perf_counter()
    answer = client.get(path)
    took = 1000 * (time.perf_counter() - began)
    assert answer.status_code == 200, answer.text
    if took > 50:
        print(f"{took:.0f} ms: {path}", file=sys.stderr)
    return took


def _row(what: str, times: list[float], goal: str = "") -> Row:
    cuts = statistics.quantiles(times, n=100)
    return Row(what, 1000 / statistics.mean(times), cuts[49], cuts[98], goal)


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            httpx2.get(url)
        except httpx2.ConnectError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"{url} does not answer.")


def _resident_mb(server: Server) -> float:
    found = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in server.pids]
    return sum(int(line.split()[1]) for status in found for line in status if line.startswith("VmRSS")) / 1024


def _print(rows: list[Row], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    print(
        f"\n{os.cpu_count()} cores shared by server and load, load average {os.getloadavg()[0]:.1f}, {CONNECTIONS} connections\n"
    )
    print("| what | requests/s | p50 | p99 | goal |\n|---|---|---|---|---|")
    for row in rows:
        print(f"| {row.what} | {row.per_second or 0:,.0f} | {row.p50_ms:.1f} ms | {row.p99_ms:.1f} ms | {row.goal} |")
    beside = peers.compared(rows)
    if beside:
        print("\n| what | peer | ours/s | peer/s | ratio | goal |\n|---|---|---|---|---|---|")
    for what, peer, ours, theirs, goal in beside:
        print(f"| {what} | {peer} | {ours:,.0f} | {theirs:,.0f} | {ours / theirs:,.1f} | {goal or ''} |")


if __name__ == "__main__":
    main()
