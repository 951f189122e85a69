"""Answers that are given again: never one that no longer holds, and never to somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from hub.access.answers import HOLDS_S, MAX_BODY_BYTES, MAX_BYTES, Again, Answers
from hub.access.known import LATELY, MAX_KNOWN, KnownTokens
from hub.auth.policy import Principal
from hub.domain.accounts import SignedIn, authenticate
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of
from vera.bundle import MEDIA_TYPE
from vera.manifest import WEIGHTS_FILE

PATH = "/adapters/demo/tiny/versions/v1"


@pytest.fixture
def queries(sqlite_hub: Hub) -> Callable[[], int]:
    """How many statements the database has been given since the last time it was asked."""
    seen: list[str] = []

    def note(_: object, __: object, statement: str, *___: object) -> None:
        seen.append(statement)

    event.listen(sqlite_hub.database.engine, "before_cursor_execute", note)

    def count() -> int:
        number = len(seen)
        seen.clear()
        return number

    return count


@pytest.fixture
def pushed(sqlite_hub: Hub) -> Hub:
    sqlite_hub.register_base()
    assert sqlite_hub.push(make_archive(seed=1), visibility="private").status_code == 201
    return sqlite_hub


def test_the_same_question_is_answered_again_without_the_database(pushed: Hub, queries: Callable[[], int]) -> None:
    demo = pushed.headers()
    pushed.get("/whoami", headers=demo)  # the use of a token is noted once a minute
    first = pushed.get(PATH, headers=demo)
    queries()

    again = pushed.get(PATH, headers=demo)
    known = pushed.get(PATH, headers=demo | {"If-None-Match": first.headers["etag"]})

    assert queries() == 0
    assert (again.status_code, again.content) == (200, first.content)
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", first.headers["etag"])
    ours = {"x-request-id"}
    assert {k: v for k, v in again.headers.items() if k not in ours} == {
        k: v for k, v in first.headers.items() if k not in ours
    }
    assert again.headers["x-request-id"] != first.headers["x-request-id"]


def test_who_has_an_answer_is_told_so_without_the_database(pushed: Hub, queries: Callable[[], int]) -> None:
    demo = pushed.headers()
    etag = pushed.get(PATH, headers=demo).headers["etag"]
    pushed.push(make_archive(seed=9), "other")  # ends what was kept
    known = demo | {"If-None-Match": etag}
    assert pushed.get(PATH, headers=known).status_code == 304
    queries()

    assert pushed.get(PATH, headers=known).status_code == 304
    assert (pushed.get(PATH, headers=demo).status_code, queries()) == (200, 0)


def test_a_revoked_token_gets_nothing_from_the_next_request_on(pushed: Hub) -> None:
    demo = pushed.headers()
    for _ in range(3):
        assert pushed.get(PATH, headers=demo).status_code == 200

    assert pushed.client.delete("/api/v1/tokens/current", headers=demo).status_code == 204

    assert code_of(pushed.get(PATH, headers=demo)) == (401, "TOKEN_INVALID")


def test_what_somebody_was_answered_is_given_to_nobody_else(pushed: Hub) -> None:
    demo = pushed.headers()
    for _ in range(3):
        assert pushed.get(PATH, headers=demo).status_code == 200

    assert code_of(pushed.get(PATH)) == (404, "ADAPTER_UNKNOWN")
    assert code_of(pushed.get(PATH, headers=pushed.headers("sam"))) == (404, "ADAPTER_UNKNOWN")


def test_who_accepts_other_things_is_answered_otherwise(pushed: Hub) -> None:
    demo = pushed.headers()
    kinds = {"application/json": "application/json", MEDIA_TYPE: MEDIA_TYPE}
    for _ in range(2):
        for accepted, kind in kinds.items():
            answer = pushed.get(f"{PATH}?with_files=true", headers=demo | {"Accept": accepted})
            assert answer.headers["content-type"] == kind


def test_whom_a_token_speaks_for_is_known_until_something_is_committed(pushed: Hub, queries: Callable[[], int]) -> None:
    demo = pushed.headers()
    pushed.get("/whoami", headers=demo)  # the use of a token is noted once a minute
    pushed.get("/whoami", headers=demo)
    queries()

    assert (pushed.get("/whoami", headers=demo).json()["name"], queries()) == ("demo", 0)
    pushed.push(make_archive(seed=9), "other")
    queries()
    assert (pushed.get("/whoami", headers=demo).json()["name"], queries() > 0) == ("demo", True)
    assert pushed.client.delete("/api/v1/tokens/current", headers=demo).status_code == 204
    assert code_of(pushed.get("/whoami", headers=demo)) == (401, "TOKEN_INVALID")


def test_a_role_that_is_taken_away_is_gone_with_the_next_request(sqlite_hub: Hub) -> None:
    sqlite_hub.found(rita="reader")
    rita, olga = sqlite_hub.headers("rita"), sqlite_hub.headers("olga")
    for _ in range(2):
        assert sqlite_hub.get("/whoami", headers=rita).json()["organisations"]

    sqlite_hub.delete("/orgs/acme/members/rita", olga)

    assert sqlite_hub.get("/whoami", headers=rita).json()["organisations"] == []


def test_a_token_ends_with_time_alone_and_they_take_bounded_memory() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    now = [start]
    known = KnownTokens(clock=lambda: now[0])
    signed_in = SignedIn(Principal(1, 1, "demo", "user", frozenset()), False, start + timedelta(seconds=5))
    known.keep(b"token", 1, signed_in)
    known.keep(b"elsewhere", None, signed_in)

    assert known.find(b"token", 1) is signed_in.principal
    assert (known.find(b"token", 2), known.find(b"token", None), known.find(b"elsewhere", 1)) == (None, None, None)
    now[0] = signed_in.holds_until
    assert known.find(b"token", 1) is None
    now[0] = start
    for number in range(MAX_KNOWN + 1):
        known.keep(b"%d" % number, 1, signed_in)
    assert (known.find(b"0", 1), known.find(b"%d" % MAX_KNOWN, 1)) == (None, signed_in.principal)


def test_whom_a_token_spoke_for_lately_is_known_for_a_second_whatever_is_committed() -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    now = [start]
    known = KnownTokens(clock=lambda: now[0])
    signed_in = SignedIn(Principal(1, 1, "demo", "user", frozenset()), False, start + timedelta(seconds=5))
    known.keep(b"token", None, signed_in)

    now[0] = start + LATELY
    assert (known.find(b"token", None), known.find_lately(b"token")) == (None, signed_in.principal)
    now[0] += timedelta(microseconds=1)
    assert known.find_lately(b"token") is None
    known.keep(b"token", 1, signed_in)
    now[0] = signed_in.holds_until
    known.keep(b"token", 1, signed_in)
    assert known.find_lately(b"token") is None


def test_until_when_a_token_holds_is_its_end_or_the_next_note_of_its_use(sqlite_hub: Hub) -> None:
    token = sqlite_hub.token()

    def signed_in() -> SignedIn:
        with sqlite_hub.database.reading() as session:
            return authenticate(session, token)

    assert signed_in().is_note_due
    used = datetime.now(UTC)
    sqlite_hub.change_tokens(last_used_at=used)
    assert (signed_in().is_note_due, signed_in().holds_until) == (False, used + timedelta(minutes=1))
    ends = used + timedelta(seconds=20)
    sqlite_hub.change_tokens(expires_at=ends)
    assert signed_in().holds_until == ends
    sqlite_hub.change_tokens(last_used_at=used - timedelta(minutes=1))
    assert signed_in().is_note_due


def test_a_feed_names_the_hub_as_whoever_asks_does(pushed: Hub) -> None:
    demo = pushed.headers()
    for name in ("127.0.0.1:8000", "localhost:8000", "127.0.0.1:8000"):
        feed = pushed.get("/adapters/demo/tiny/feed", headers={**demo, "Host": name})
        assert f"<id>http://{name}/api/v1/" in feed.text


def test_every_change_is_seen_by_the_next_request(pushed: Hub) -> None:
    demo = pushed.headers()
    for number in (2, 3):
        pushed.push(make_archive(seed=number))
        assert pushed.get("/adapters/demo/tiny", headers=demo).json()["latest"] == number
    path = "/api/v1/adapters/demo/tiny"
    for who, status in (("public", 200), ("private", 404)):
        assert pushed.client.patch(path, json={"visibility": who}, headers=demo).status_code == 200
        assert pushed.get("/adapters/demo/tiny").status_code == status


def test_downloads_of_everybody_are_counted(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    version = sqlite_hub.push(make_archive()).json()
    weights = next(file["sha256"] for file in version["files"] if file["path"] == WEIGHTS_FILE)
    for who in ({}, sqlite_hub.headers("ann"), sqlite_hub.headers("bob")):
        for _ in range(3):
            assert sqlite_hub.get(f"/adapters/demo/tiny/blobs/{weights}", headers=who).status_code == 200

    sqlite_hub.app.state.services.downloads.flush()

    assert sqlite_hub.get("/adapters/demo/tiny/downloads").json()["total"] == 3


@pytest.mark.parametrize(("status", "worked_out"), [(200, 1), (404, 5)])
def test_who_asks_while_an_answer_is_worked_out_waits_for_that(sqlite_hub: Hub, status: int, worked_out: int) -> None:
    asked = 0

    async def answering(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal asked
        asked += 1
        await may_answer.wait()
        await Response(b"tiny", status, {"ETag": '"x"'})(scope, receive, send)

    async def ask() -> tuple[int, bytes]:
        said: list[Message] = []

        async def hear(message: Message) -> None:
            said.append(message)

        scope = {"type": "http", "method": "GET", "path": f"/api/v1{PATH}", "query_string": b"", "app": sqlite_hub.app}
        await Again(answering)({**scope, "headers": [(b"authorization", b"demo")]}, _nothing, hear)
        return said[0]["status"], said[1]["body"]

    async def ask_five_times() -> list[tuple[int, bytes]]:
        asking = [asyncio.create_task(ask()) for _ in range(5)]
        await asyncio.sleep(0)  # each has run until it waits
        assert asked == 1
        may_answer.set()
        return await asyncio.gather(*asking)

    may_answer = asyncio.Event()
    assert asyncio.run(ask_five_times()) == [(status, b"tiny")] * 5
    assert asked == worked_out


async def _nothing() -> Message:
    raise AssertionError("no body is read")


def test_an_answer_holds_for_a_second_and_they_take_bounded_memory() -> None:
    now = [0.0]
    answers = Answers(clock=lambda: now[0])
    headers = [(b"etag", b'"x"')]
    answers.keep(b"key", 1, headers, b"body")

    assert answers.find(b"key", 1) is not None
    assert answers.find(b"key", 2) is None
    answers.keep(b"key", 2, headers, b"body")
    now[0] = HOLDS_S + 0.1
    assert answers.find(b"key", 2) is None
    answers.keep(b"large", 2, headers, bytes(MAX_BODY_BYTES + 1))
    answers.keep(b"nameless", 2, [], b"body")
    assert (answers.find(b"large", 2), answers.find(b"nameless", 2)) == (None, None)
    for number in range(MAX_BYTES // MAX_BODY_BYTES + 1):
        answers.keep(b"%d" % number, 2, headers, bytes(MAX_BODY_BYTES))
    assert answers.find(b"0", 2) is None
    assert answers.find(b"1", 2) is not None
