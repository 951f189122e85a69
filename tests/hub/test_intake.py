"""Bodies that are many, large or slow: the hub takes in what it can hold and waits for nobody for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient, Request, Response

from hub.access.intake import Intake
from hub.settings import Settings
from tests.builders import make_archive, make_base
from tests.hub.harness import URL, Hub, code_of, start

PUSH = f"{URL}/api/v1/adapters/demo/tiny/versions"
BASES = f"{URL}/api/v1/bases"


@pytest.fixture
def hub(embedded: Settings) -> Iterator[Hub]:
    """A hub with a base, and an event loop for each request."""
    hub = start(embedded)
    hub.register_base()
    yield hub
    hub.database.close()


@asynccontextmanager
async def _client(hub: Hub, intake: Intake) -> AsyncIterator[AsyncClient]:
    hub.app.state.services = replace(hub.app.state.services, intake=intake)
    async with AsyncClient(transport=ASGITransport(hub.app), headers=hub.headers()) as client:
        yield client


def _push_body() -> tuple[bytes, str]:
    """The body of a push that is accepted, and its content type."""
    files = [(path, (path, data)) for path, data in make_archive().files.items()]
    request = Request("POST", PUSH, files=files)
    return request.read(), request.headers["content-type"]


async def _held_push(client: AsyncClient, begun: asyncio.Event, rest: asyncio.Event) -> Response:
    """A push that stops in the middle until `rest` is set."""
    body, content_type = _push_body()

    async def halves() -> AsyncIterator[bytes]:
        yield body[:500]
        begun.set()
        await rest.wait()
        yield body[500:]

    return await client.post(PUSH, content=halves(), headers={"Content-Type": content_type})


async def _push(client: AsyncClient) -> Response:
    body, content_type = _push_body()
    return await client.post(PUSH, content=body, headers={"Content-Type": content_type})


async def _while_one_is_held(
    client: AsyncClient, asked: Coroutine[Any, Any, Response], *, until_answered: bool
) -> tuple[Response, Response]:
    """The answers to a push that is held back and to what is asked meanwhile."""
    begun, rest = asyncio.Event(), asyncio.Event()
    held = asyncio.create_task(_held_push(client, begun, rest))
    await begun.wait()
    meanwhile = asyncio.create_task(asked)
    if until_answered:
        await asyncio.wait([meanwhile])
    rest.set()
    return await held, await meanwhile


def test_a_push_for_which_there_is_no_room_is_told_to_come_back(hub: Hub) -> None:
    async def scenario() -> tuple[Response, Response, Response]:
        async with _client(hub, Intake(1, wait_s=0.05)) as client:
            held, turned_away = await _while_one_is_held(client, _push(client), until_answered=True)
            return held, turned_away, await _push(client)

    held, turned_away, later = asyncio.run(scenario())

    assert code_of(turned_away) == (503, "HUB_BUSY")
    assert turned_away.headers["retry-after"] == "1"
    assert turned_away.json()["retryable"] is True
    assert (held.status_code, later.status_code) == (201, 200)  # what was held is whole, and its place is free again


def test_a_push_waits_for_the_one_before_it(hub: Hub) -> None:
    async def scenario() -> tuple[Response, Response]:
        async with _client(hub, Intake(1, wait_s=60)) as client:
            return await _while_one_is_held(client, _push(client), until_answered=False)

    held, waited = asyncio.run(scenario())

    assert (held.status_code, waited.status_code) == (201, 200)


def test_tables_need_room_and_small_requests_do_not(hub: Hub) -> None:
    table = {"name": "x", "revision": None, "tensors": make_base(salt="2").to_rows()}

    async def scenario() -> list[Response]:
        async with _client(hub, Intake(1, wait_s=0.05)) as client:
            small = {"ref": "demo/none", "suite": "demo/topics"}
            answers = []
            for path, body in (("bases", table), ("evaluations", small)):
                asked = client.post(f"{URL}/api/v1/{path}", json=body)
                answers.append((await _while_one_is_held(client, asked, until_answered=True))[1])
            return answers

    assert [code_of(answer) for answer in asyncio.run(scenario())] == [(503, "HUB_BUSY"), (404, "ADAPTER_UNKNOWN")]


def test_the_place_of_a_push_that_failed_is_free_again(hub: Hub) -> None:
    async def scenario() -> list[int]:
        async with _client(hub, Intake(1, wait_s=0.05)) as client:
            broken = {"content": b"--x\r\nnothing", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}
            answers = [await client.post(PUSH, **broken), await _push(client)]
            return [answer.status_code for answer in answers]

    assert asyncio.run(scenario()) == [400, 201]


async def _nothing_more() -> AsyncIterator[bytes]:
    yield b"["
    await asyncio.Event().wait()


async def _a_byte_at_a_time() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("body", [_nothing_more, _a_byte_at_a_time])
def test_a_body_that_does_not_come_is_given_up(hub: Hub, body: Any) -> None:
    async def scenario() -> Response:
        async with _client(hub, Intake(1, pause_s=0.1, slowest_bytes_per_s=1e6)) as client:
            return await client.post(BASES, content=body(), headers={"Content-Type": "application/json"})

    answer = asyncio.run(scenario())

    assert code_of(answer) == (408, "BODY_TIMEOUT")
    assert answer.headers["connection"] == "close"
