"""Two processes that are one hub: on one PostgreSQL and one object store, or on one SQLite and one address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import httpx2

from hub.db.session import Database
from hub.settings import DATABASE_FILE
from tests.hub.postgres import postgres_server
from tests.hub.processes import run, serving
from tests.hub.s3 import s3_server, weed


class InTurns(httpx2.BaseTransport):
    """Sends each request to the next one of several hubs, whatever its address says, on a line of its own: of one address,
    the kernel gives each line to one of the processes that listen there."""

    def __init__(self, urls: list[str]) -> None:
        self._turns = cycle([httpx2.URL(url) for url in urls])
        self._http = httpx2.HTTPTransport(limits=httpx2.Limits(max_keepalive_connections=0))

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        to = next(self._turns)
        request.url = request.url.copy_with(host=to.host, port=to.port)
        request.headers["Host"] = f"{to.host}:{to.port}"
        return self._http.handle_request(request)

    def close(self) -> None:
        self._http.close()


@dataclass(frozen=True)
class Replicas:
    """The addresses of the hubs, and the database they share."""

    urls: list[str]
    database: Database

    def http(self) -> httpx2.Client:
        """A connection whose requests are spread between them."""
        return httpx2.Client(transport=InTurns(self.urls), timeout=30)


@contextmanager
def replicas(folder: Path, number: int = 2) -> Iterator[Replicas]:
    """The hubs, until the block ends. Without an S3 server they share a folder for objects."""
    with ExitStack() as stack:
        url = stack.enter_context(postgres_server())()
        (folder / "s3").mkdir()
        environment = {"VERA_HUB_DATABASE_URL": url, "VERA_HUB_BLOB_URL": (folder / "s3").as_uri()}
        if weed() is not None:
            s3 = stack.enter_context(s3_server(folder / "s3"))
            environment |= {**s3.environment, "VERA_HUB_BLOB_URL": s3.url}
        assert run(folder, "migrate", environment=environment).returncode == 0
        hubs = [stack.enter_context(serving(folder / str(each), environment=environment)) for each in range(number)]
        database = Database(url)
        stack.callback(database.close)
        yield Replicas([hub.url for hub in hubs], database)


@contextmanager
def processes(folder: Path) -> Iterator[Replicas]:
    """A hub of two processes on SQLite, until the block ends."""
    with serving(folder, "--processes", "2") as hub:
        database = Database(f"sqlite:///{hub.data / DATABASE_FILE}")
        yield Replicas([hub.url], database)
        database.close()
