"""What a mirror's token alone sees at the other hub: those who have not signed in learn no more of it than of what is not there."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hub.settings import DATABASE_FILE
from tests.builders import make_stored
from tests.hub.test_mirror import Two, refusal, send_pair, two_hubs

SECRET, ABSENT = "secret", "absent"
ARCHIVE = make_stored(seed=1)
PAIR = ARCHIVE.manifest.projection_digest
AS_A_PAGE = {"Accept": "text/html"}
OF_EACH_REQUEST = ("date", "x-request-id", "content-length")
# Of one adapter: the API, the pages and the other wire. {digest} and {sha256} are those of the secret one.
DOORS = (
    "/api/v1/adapters/acme/{name}",
    "/api/v1/adapters/acme/{name}/versions/v1",
    "/api/v1/adapters/acme/{name}/versions/latest",
    "/api/v1/adapters/acme/{name}/versions/{digest}",
    "/api/v1/adapters/acme/{name}/blobs/{sha256}",
    "/api/v1/adapters/acme/{name}/aliases",
    "/api/v1/adapters/acme/{name}/access",
    "/api/v1/adapters/acme/{name}/downloads",
    "/api/v1/adapters/acme/{name}/feed",
    "/acme/{name}",
    "/acme/{name}@v1",
    "/acme/{name}/badge/demo/topics.svg",
    "/api/models/acme/{name}",
    "/api/models/acme/{name}/revision/main",
    "/api/models/acme/{name}/tree/main",
    "/api/models/acme/{name}/refs",
    "/api/models/acme/{name}/commits/main",
    "/acme/{name}/resolve/main/vera.json",
)
# Of many, or of what adapters use.
LISTS = (
    "/",
    "/acme",
    "/api/v1/adapters",
    "/api/v1/adapters/facets",
    "/api/models",
    "/api/models?author=acme",
    "/api/v1/orgs/acme",
    f"/api/v1/projections/{PAIR}",
)


@pytest.fixture
def two(tmp_path: Path, migrated_file: Path) -> Iterator[Two]:
    """An upstream with one private adapter, which the mirror's token sees."""
    with two_hubs(tmp_path, migrated_file, with_token=True) as found:
        send_pair(found, ARCHIVE)
        found.push(ARCHIVE, SECRET, visibility="private")
        yield found


def signed_in(two: Two) -> dict[str, Mapping[str, str]]:
    """The headers of an admin of the mirror, and of a user who is a member of nothing there."""
    with closing(sqlite3.connect(two.mirror.data / DATABASE_FILE)) as ours:
        ours.execute("UPDATE accounts SET is_admin = 1")
        ours.commit()
    code = two.our.post("/api/v1/users", json={"name": "rita"}).json()["code"]
    login = two.anybody.post("/api/v1/login", json={}, headers={"Authorization": f"Bearer {code}"}).json()
    return {"reader": {"Authorization": f"Bearer {login['token']}"}, "admin": two.our.headers}


def told(two: Two, address: str, name: str = "") -> list[tuple[int, dict[str, str], str]]:
    """What anybody is told at an address, as a program and as a browser, without what is another each time."""

    def as_if_unnamed(text: str) -> str:
        return re.sub(r'"request_id": "\w+"|<code>\w{16}</code>', "", text).replace(name or "\0", "it")

    def ask(method: str, headers: Mapping[str, str]) -> httpx2.Response:
        return two.anybody.request(method, address, headers=headers)

    answers = [ask(method, headers) for method in ("GET", "HEAD") for headers in ({}, AS_A_PAGE)]
    assert all(answer.status_code != 500 for answer in answers), address
    return [
        (
            answer.status_code,
            {key: as_if_unnamed(value) for key, value in answer.headers.items() if key not in OF_EACH_REQUEST},
            as_if_unnamed(answer.text),
        )
        for answer in answers
    ]


def require_nothing_is_learned(two: Two, **digests: str) -> None:
    for door in DOORS:
        assert told(two, door.format(name=SECRET, **digests), SECRET) == told(
            two, door.format(name=ABSENT, **digests), ABSENT
        ), door


def status_of(two: Two, headers: Mapping[str, str], address: str = f"/api/v1/adapters/acme/{SECRET}") -> int:
    return two.get(address, headers=headers).status_code


def test_a_fresh_copy_is_as_absent_as_what_was_never_asked_for_while_the_other_hub_is_down(
    tmp_path: Path, migrated_file: Path
) -> None:
    with two_hubs(tmp_path, migrated_file, with_token=True, fresh_s=600) as two:
        send_pair(two, ARCHIVE)
        two.push(ARCHIVE, SECRET, visibility="private")
        whose = signed_in(two)
        assert [status_of(two, headers) for headers in whose.values()] == [200, 200]

        two.wire.upstream = "http://127.0.0.1:1"

        secret, absent = (told(two, f"/api/v1/adapters/acme/{name}", name) for name in (SECRET, ABSENT))
        assert secret == absent
        assert secret[0][0] == 503
        assert [status_of(two, headers) for headers in whose.values()] == [200, 200]


def test_nobody_learns_of_what_only_the_token_sees(two: Two) -> None:
    whose = signed_in(two)
    theirs: dict[str, Any] = two.their.get(f"/api/v1/adapters/acme/{SECRET}/versions/v1").json()
    named = {"digest": theirs["digest"], "sha256": theirs["files"][0]["sha256"]}
    lists = {address: told(two, address) for address in LISTS}
    private = f"/api/v1/adapters/acme/{SECRET}"

    require_nothing_is_learned(two, **named)  # before anybody has fetched it
    for headers in whose.values():
        for door in DOORS:
            if door.startswith("/api/") or "resolve" in door:  # pages are for sessions, and these are tokens
                assert status_of(two, headers, door.format(name=SECRET, **named)) == 200, door
        assert status_of(two, headers, f"/api/v1/projections/{PAIR}") == 200
    require_nothing_is_learned(two, **named)  # while it is kept here
    assert {address: told(two, address) for address in LISTS} == lists

    two.wire.upstream = "http://127.0.0.1:1"
    require_nothing_is_learned(two, **named)  # while the other hub is down
    assert [status_of(two, headers) for headers in whose.values()] == [200, 200]
    two.wire.upstream = two.upstream.url

    assert two.their.patch(private, json={"gated": "manual"}).status_code == 200
    require_nothing_is_learned(two, **named)
    for headers in whose.values():
        assert refusal(two.get(private, headers=headers)) == (403, "ADAPTER_GATED")
        assert status_of(two, headers, f"/api/v1/projections/{PAIR}") == 404
    assert two.their.patch(private, json={"gated": None}).status_code == 200

    assert two.their.post(f"{private}/move", json={"to": "acme/another"}).status_code == 200
    require_nothing_is_learned(two, **named)
    assert [status_of(two, headers) for headers in whose.values()] == [307, 307]
    assert {address: told(two, address) for address in LISTS} == lists
