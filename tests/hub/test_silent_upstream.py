"""Another hub that takes every connection and says nothing: so many wait for it, and everybody else is answered at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from httpx2 import ASGITransport, AsyncClient, Response

from hub.sending.places import PLACES
from hub.settings import Settings
from tests.builders import make_archive
from tests.hf.model_hub import serving_models
from tests.hub.harness import URL, Hub, start
from tests.hub.test_mirror import Two, refusal, two_hubs

MORE = 4


class Silent:
    """A server that says nothing until it is told to hang up."""

    def __init__(self) -> None:
        self.url = ""
        self.hung_up = asyncio.Event()
        self.connections = 0

    async def take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await self.hung_up.wait()
        writer.close()


@asynccontextmanager
async def silent() -> AsyncIterator[Silent]:
    found = Silent()
    server = await asyncio.start_server(found.take, "127.0.0.1", 0)
    async with server:
        found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield found
        found.hung_up.set()


@asynccontextmanager
async def asking(hub: Hub) -> AsyncIterator[AsyncClient]:
    try:
        async with AsyncClient(transport=ASGITransport(hub.app), base_url=URL, timeout=60) as client:
            yield client
    finally:
        services = hub.app.state.services
        for each in (services.mirror, services.relay):
            if each is not None:
                await asyncio.to_thread(each.close)
        hub.database.close()


async def more_than_may_wait(client: AsyncClient, address: str) -> tuple[list[asyncio.Task[Response]], list[Response]]:
    """Requests for more things than there are places for: those that wait, and the answers to the others."""
    waiting = {asyncio.create_task(client.get(address.format(number))) for number in range(PLACES + MORE)}
    answers: list[Response] = []
    while len(answers) < MORE:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        answers += [task.result() for task in done]
    return list(waiting), answers


ADDRESSES = {"mirror": "/api/v1/adapters/acme/a{}", "relay": "/api/models/tests/a{}/revision/main"}


@pytest.mark.parametrize("kind", ADDRESSES)
def test_so_many_wait_for_a_silent_hub_and_the_others_are_told_to_come_back(embedded: Settings, kind: str) -> None:
    async def scenario() -> tuple[list[Response], Response, list[Response], int]:
        async with silent() as other:
            settings = {"upstream": other.url} if kind == "mirror" else {"bases": ("tests/*",), "bases_from": other.url}
            hub = start(Settings(**{**embedded.model_dump(), **settings}))
            async with asking(hub) as client:
                waiting, answers = await more_than_may_wait(client, ADDRESSES[kind])
                listed = await client.get("/api/v1/adapters")
                other.hung_up.set()
                return answers, listed, await asyncio.gather(*waiting), other.connections

    answers, listed, waited, connections = asyncio.run(scenario())

    assert [(each.status_code, each.json()["code"]) for each in answers] == [(503, "UPSTREAM_BUSY")] * MORE
    assert {each.headers["retry-after"] for each in answers} == {"1"}
    assert listed.status_code == 200
    assert [(each.status_code, each.json()["code"]) for each in waited] == [(503, "UPSTREAM_SILENT")] * PLACES
    assert connections == PLACES


def test_what_is_known_of_a_base_is_given_while_others_wait(embedded: Settings) -> None:
    settings = {**embedded.model_dump(), "bases": ("tests/*",), "upstream_fresh_s": 0}
    known = "/api/models/tests/tiny/revision/main"
    with serving_models() as theirs:
        theirs.add("tests/tiny", {"config.json": b"{}"})
        before = start(Settings(**{**settings, "bases_from": theirs.url}))
        assert before.client.get(known).status_code == 200
        before.app.state.services.relay.close()
        before.database.close()

    async def scenario() -> Response:
        async with silent() as other, asking(start(Settings(**{**settings, "bases_from": other.url}))) as client:
            waiting, _ = await more_than_may_wait(client, ADDRESSES["relay"])
            given = await client.get(known)
            other.hung_up.set()
            await asyncio.gather(*waiting)
            return given

    assert asyncio.run(scenario()).status_code == 200


@pytest.fixture
def two(tmp_path: Path, migrated_file: Path) -> Iterator[Two]:
    with two_hubs(tmp_path, migrated_file) as found:
        yield found


def test_the_copy_is_given_while_others_wait_for_the_other_hub(two: Two) -> None:
    two.push(make_archive(seed=1))
    assert two.version("v1").status_code == 200
    two.wire.answers.clear()
    with ThreadPoolExecutor(PLACES) as threads:
        waiting = [threads.submit(two.version, "v1", f"other-{number}") for number in range(PLACES)]
        try:
            assert all(two.wire.waiting.acquire(timeout=20) for _ in waiting)
            copy, absent = two.version("v1"), two.version("v1", "absent")
        finally:
            two.wire.answers.set()

    assert copy.status_code == 200
    assert copy.headers["vera-mirror-stale"]
    assert refusal(absent) == (503, "UPSTREAM_BUSY")
    assert {each.result().status_code for each in waiting} == {404}
