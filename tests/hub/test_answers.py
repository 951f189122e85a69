"""Answers that are given again: never one that no longer holds, and never to somebody else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import event

from hub.access.answers import HOLDS_S, MAX_BODY_BYTES, MAX_BYTES, Answers
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of
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
