"""Pushes under load: the bodies, the load, and how many one hub and two on one database take."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
from sqlalchemy import text

from hub.auth.tokens import TokenKind
from hub.db.session import Database
from hub.domain import accounts
from sdk.parallel import in_parallel
from tests.benchmarks import seeding, wrk
from tests.benchmarks.wrk import Row
from tests.builders import BASE_NAME, make_archive, make_base
from tests.hub.postgres import postgres_server
from tests.hub.processes import Server, run, serving
from vera.archive import Archive, Vectors, pack, seal, vectors_of

# 42 modules of rank 256 are the 172 KB of the issue.
MODULES = tuple((f"encoder.layer.{number}.dense", 768, 768) for number in range(42))
# Enough that no body is sent twice, whose blobs would be there already.
PUSHES = 3_000

_BOUNDARY = "bench-registry-boundary"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
# Names that look like no other, and bodies in turn, from a number on.
_PUSHES_LUA = """
local syllables = {%s}
local number = %d
function request()
  number = number + 1
  local file = io.open(string.format("%s/%%d", number %% %d), "rb")
  local body = file:read("*a")
  file:close()
  local name, rest = "", number
  for place = 1, 4 do
    name = name .. (place > 1 and "-" or "") .. syllables[rest %% 20 + 1]
    rest = math.floor(rest / 20)
  end
  return wrk.format("POST", "/api/v1/adapters/%s/" .. name .. "/versions", nil, body)
end
function response(status, headers, body)
  if status ~= 201 then print(status, body) end
end
"""


def bodies(folder: Path, count: int = PUSHES) -> Path:
    """The folder, with pushes of 172 KB by their number, no two alike."""
    folder.mkdir()
    first = measured()
    for number in range(count):
        (folder / str(number)).write_bytes(_multipart(first if number == 0 else another(first, number)))
    return folder


def measured() -> Archive:
    """An adapter of 172 KB."""
    return make_archive(rank=256, modules=MODULES, labels=(), scale=0.01)


def another(first: Archive, number: int) -> Archive:
    """The same adapter with other vectors, over the same matrices: drawing those takes longer than the rest."""
    draw, old = np.random.default_rng(number), vectors_of(first)

    def drawn(vectors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: draw.normal(size=vector.shape).astype(np.float32) for name, vector in vectors.items()}

    weights, sizes, _ = pack(Vectors(drawn(dict(old.lambda_b)), drawn(dict(old.lambda_d)), {}))
    return seal(replace(first.manifest, weights=sizes, files={}), weights, first.card)


def _multipart(archive: Archive) -> bytes:
    parts = [
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{path}"; filename="{path}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for path, data in archive.files.items()
    ]
    return b"".join(parts) + f"--{_BOUNDARY}--\r\n".encode()


def under_load(
    server: Server, script: Path, token: Mapping[str, str], what: str, *, connections: int, kind: str = ""
) -> Row:
    """What a hub makes of the pushes of a `script`."""
    before = cpu_seconds(server)
    row = wrk.load(
        what,
        server.url,
        {**token, **MULTIPART},
        "300/s, 40% of commit and fsync",
        "-s",
        str(script),
        kind=kind,
        connections=connections,
    )
    pushes = (row.per_second or 0) * wrk.SECONDS
    print(f"CPU time of a push: {1000 * (cpu_seconds(server) - before) / pushes:.1f} ms", file=sys.stderr)
    return row


def script_from(first: int, bodies: Path, user: str) -> Path:
    """Pushes for `wrk` of new adapters, numbered from `first` on, with those `bodies` in turn."""
    script = bodies.parent / f"push-{first}.lua"
    syllables = ", ".join(f'"{each}"' for each in seeding.SYLLABLES)
    script.write_text(_PUSHES_LUA % (syllables, first, bodies, PUSHES, user))
    return script


def known(client: httpx2.Client) -> str:
    """Whom the hub takes us for, now that it knows the base of what is pushed."""
    rows = make_base(MODULES).to_rows()
    assert client.post("/api/v1/bases", json={"name": BASE_NAME, "revision": None, "tensors": rows}).is_success
    return str(client.get("/api/v1/whoami").json()["name"])


def wait_for_processes(server: Server, count: int) -> None:
    """Until all of a hub's processes listen."""
    while len(server.pids) < count:
        time.sleep(0.1)
    time.sleep(3 * (count > 1))  # a further one says only in the log that it listens


def cpu_seconds(server: Server) -> float:
    """The CPU time that the server's processes have taken so far, of the kernel for them too."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in server.pids]
    return sum(int(each[11]) + int(each[12]) for each in fields) / os.sysconf("SC_CLK_TCK")


# -- Several hubs ---------------------------------------------------------------------------------


def by_replicas(folder: Path) -> Iterator[Row]:
    """Pushes to one hub and to two on one PostgreSQL that writes to the disk, with as many connections in all."""
    folder.mkdir()
    with ExitStack() as stack:
        url = stack.enter_context(postgres_server(is_durable=True))()
        environment = {"VERA_HUB_DATABASE_URL": url}
        assert run(folder, "migrate", environment=environment).returncode == 0
        servers = [stack.enter_context(serving(folder / str(each), environment=environment)) for each in range(2)]
        database = Database(url)
        stack.callback(database.close)
        with database.writing() as session:
            token = accounts.issue_token(session, accounts.ensure_user(session, "measured"), TokenKind.PERSONAL)
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(base_url=servers[0].url, headers=headers, timeout=30) as client:
            known(client)
        yield _floor_of_postgres(database)
        yield from _one_and_two(servers, bodies(folder / "bodies"), headers)


def _one_and_two(servers: Sequence[Server], pushed: Path, token: Mapping[str, str]) -> Iterator[Row]:
    def half(which: int) -> Row:
        script = script_from(1_000 * (1 + which), pushed, "measured")
        what = f"of two hubs on PostgreSQL, the {('first', 'second')[which]}"
        return under_load(servers[which], script, token, what, connections=wrk.CONNECTIONS // 2)

    script = script_from(0, pushed, "measured")
    yield under_load(servers[0], script, token, "durable push, one hub on PostgreSQL", connections=wrk.CONNECTIONS)
    halves = in_parallel(half, (0, 1), at_once=2)
    together = sum(each.per_second or 0 for each in halves)
    p50, p99 = (statistics.mean(times) for times in zip(*((each.p50_ms, each.p99_ms) for each in halves), strict=True))
    yield Row("durable push, two hubs on PostgreSQL", together, p50, p99, "300/s")


def _floor_of_postgres(database: Database) -> Row:
    """A commit that holds as many bytes, over one connection."""
    data, times = os.urandom(174_000), []
    with database.engine.connect() as connection:
        connection.execute(text("CREATE TABLE floor (data bytea)"))
        connection.commit()
        for _ in range(200):
            began = time.perf_counter()
            connection.execute(text("INSERT INTO floor VALUES (:data)"), {"data": data})
            connection.commit()
            times.append(1000 * (time.perf_counter() - began))
        connection.execute(text("DROP TABLE floor"))
        connection.commit()
    cuts = statistics.quantiles(times, n=100)
    return Row("floor: commit and fsync of 174 KB, PostgreSQL", 1000 / statistics.mean(times), cuts[49], cuts[98])
