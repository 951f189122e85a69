"""Aliases: moved by who may, only from where they were expected, and never without a trace."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from tests.builders import make_archive
from tests.hub.harness import Hub, code_of

TINY = "/adapters/demo/tiny"
PROD = f"{TINY}/aliases/prod"


@pytest.fixture
def two(hub: Hub) -> Hub:
    """demo/tiny with two versions."""
    hub.register_base()
    for seed in (1, 2):
        assert hub.push(make_archive(seed=seed)).status_code == 201
    return hub


@pytest.fixture
def plain(sqlite_hub: Hub) -> Hub:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive(seed=1))
    sqlite_hub.push(make_archive(seed=2))
    return sqlite_hub


def meaning(hub: Hub, alias: str = "prod") -> str:
    answer = hub.get(f"{TINY}/versions/{alias}")
    return str(answer.json()["ref"] if answer.status_code == 200 else answer.json()["code"])


def test_an_alias_means_what_it_was_last_set_to(two: Hub) -> None:
    made = two.put(PROD, {"version": "v1"}, two.headers())

    assert made.status_code == 201
    assert (made.json()["name"], made.json()["ref"], made.json()["protected"]) == ("prod", "demo/tiny@v1", False)
    assert meaning(two) == "demo/tiny@v1"
    assert two.put(PROD, {"version": "v2"}, two.headers()).status_code == 200
    assert meaning(two) == "demo/tiny@v2"
    assert two.get(f"{TINY}/versions/v2").json()["aliases"] == ["prod"]
    assert [each["ref"] for each in two.get(TINY).json()["aliases"]] == ["demo/tiny@v2"]
    assert two.get(f"{TINY}/aliases").json()["items"] == two.get(TINY).json()["aliases"]


def test_an_alias_with_a_digest_means_exactly_that_version(two: Hub) -> None:
    two.put(PROD, {"version": "v1"}, two.headers())
    first, second = (two.get(f"{TINY}/versions/v{number}").json()["digest"] for number in (1, 2))

    assert two.get(f"{TINY}/versions/prod?digest={first}").status_code == 200
    assert code_of(two.get(f"{TINY}/versions/prod?digest={second}")) == (409, "DIGEST_MISMATCH")


def test_the_history_says_what_an_alias_meant_when(two: Hub) -> None:
    for number in (1, 2):
        two.put(PROD, {"version": f"v{number}"}, two.headers())
    two.delete(PROD, two.headers())

    moves = two.get(f"{PROD}/history").json()["items"]

    assert [(move["before"], move["after"], move["by"]) for move in moves] == [
        (2, None, "demo"),
        (1, 2, "demo"),
        (None, 1, "demo"),
    ]

    def at(text: str, later: timedelta = timedelta()) -> object:
        answer = two.get(f"{PROD}/at", params={"time": (datetime.fromisoformat(text) + later).isoformat()})
        return answer.json()["after"] if answer.status_code == 200 else answer.json()["code"]

    assert at(moves[2]["at"]) == 1
    assert at(moves[1]["at"]) == 2
    assert at(moves[0]["at"]) == "ALIAS_NOT_SET_THEN"
    assert at(moves[2]["at"], -timedelta(seconds=1)) == "ALIAS_NOT_SET_THEN"
    assert [move["until"] for move in moves] == [None, moves[0]["at"], moves[1]["at"]]
    assert two.get(f"{PROD}/at", params={"time": moves[2]["at"]}).json() == moves[2]
    assert meaning(two) == "VERSION_UNKNOWN"


def test_a_time_at_which_an_alias_was_not_set_is_answered_with_when_it_was(two: Hub) -> None:
    two.put(PROD, {"version": "v1"}, two.headers())
    two.delete(PROD, two.headers())

    def said(time: str, alias: str = PROD) -> str:
        answer = two.get(f"{alias}/at", params={"time": time}).json()
        return f"{answer['code']} {answer['detail']}"

    removed, made = (move["at"] for move in two.get(f"{PROD}/history").json()["items"])
    assert f"demo set it for the first time at {made[:19].replace('T', ' ')} UTC" in said("2020-02-29")
    assert f"demo had removed it at {removed[:19].replace('T', ' ')} UTC" in said(removed)
    assert said("2020-02-29", f"{TINY}/aliases/never").startswith("ALIAS_UNKNOWN")
    assert said((datetime.now(UTC) + timedelta(days=1)).isoformat()).startswith("TIME_TO_COME")
    assert said("9999-12-31T23:00").startswith("TIME_TO_COME")
    for nonsense in ("March", "2026-02-30", "20260301", "1772323200", "", "0001-01-01T00:00+14:00"):
        assert said(nonsense).startswith("TIME_INVALID"), nonsense


@pytest.mark.parametrize("zone", ["", "Z", "+00:00"])
def test_a_time_without_a_zone_is_in_utc(two: Hub, zone: str) -> None:
    two.put(PROD, {"version": "v1"}, two.headers())
    made = datetime.fromisoformat(two.get(PROD).json()["updated_at"]).replace(tzinfo=None)

    def status(moment: datetime) -> int:
        return two.get(f"{PROD}/at", params={"time": f"{moment.isoformat()}{zone}"}).status_code

    assert (status(made), status(made - timedelta(seconds=1))) == (200, 404)


def test_a_long_history_comes_page_by_page(two: Hub) -> None:
    headers = two.headers()
    for turn in range(5):
        two.put(PROD, {"version": f"v{1 + turn % 2}"}, headers)

    first = two.get(f"{PROD}/history?limit=3").json()
    rest = two.get(f"{PROD}/history?limit=3&cursor={first['next']}").json()

    assert [move["after"] for move in first["items"] + rest["items"]] == [1, 2, 1, 2, 1]
    assert rest["next"] is None
    assert [move["until"] for move in rest["items"]] == [first["items"][2]["at"], rest["items"][0]["at"]]


def test_setting_the_same_again_is_no_move(two: Hub) -> None:
    first = two.put(PROD, {"version": "v1"}, two.headers())
    again = two.put(PROD, {"version": "v1"}, two.headers())

    assert (again.status_code, again.json()) == (200, first.json())
    assert len(two.get(f"{PROD}/history").json()["items"]) == 1


# -- Compare and set ------------------------------------------------------------------------------


def test_an_alias_that_is_not_what_was_expected_stays_where_it_is(two: Hub) -> None:
    headers = two.headers()
    etag = two.put(PROD, {"version": "v1"}, headers).headers["etag"]

    def put(version: str, expected: str | None = None, **conditions: str) -> tuple[int, str]:
        names = {"if_match": "If-Match", "if_none_match": "If-None-Match"}
        sent = {**headers, **{names[name]: value for name, value in conditions.items()}}
        answer = two.put(PROD, {"version": version, "expected": expected}, sent)
        return answer.status_code, str(answer.json().get("code", ""))

    assert put("v2", expected="v2") == (412, "ALIAS_CHANGED")
    refused = two.put(PROD, {"version": "v2", "expected": "v7"}, headers).json()["detail"]
    assert "demo/tiny@prod means v1, which is not what was expected (v7)" in refused
    assert put("v2", if_match='"999"') == (412, "ALIAS_CHANGED")
    assert put("v2", if_none_match="*") == (412, "ALIAS_CHANGED")
    assert meaning(two) == "demo/tiny@v1"
    assert put("v2", expected="v1") == (200, "")
    assert put("v1", if_match=etag) == (412, "ALIAS_CHANGED")
    assert put("v1", if_match="*") == (200, "")
    assert put("v2", if_match=etag) == (412, "ALIAS_CHANGED")  # v1 again, and not the same v1
    assert put("v2", if_match=two.get(PROD).headers["etag"]) == (200, "")
    removed = two.delete(PROD, {**headers, "If-Match": etag})
    assert code_of(removed) == (412, "ALIAS_CHANGED")


def test_of_an_alias_that_is_not_set_nothing_else_can_be_expected(plain: Hub) -> None:
    headers = plain.headers()

    assert code_of(plain.put(PROD, {"version": "v1", "expected": "v1"}, headers)) == (412, "ALIAS_CHANGED")
    assert code_of(plain.put(PROD, {"version": "v1"}, {**headers, "If-Match": "*"})) == (412, "ALIAS_CHANGED")
    assert plain.put(PROD, {"version": "v1"}, {**headers, "If-None-Match": "*"}).status_code == 201


@pytest.mark.parametrize("headers", [{"If-Match": "v1"}, {"If-Match": '"a", "b"'}, {"If-None-Match": '"7"'}])
def test_a_condition_that_is_none_is_refused(plain: Hub, headers: dict[str, str]) -> None:
    answer = plain.put(PROD, {"version": "v1"}, {**plain.headers(), **headers})

    assert code_of(answer) == (400, "HEADER_INVALID")


def test_of_two_who_move_an_alias_from_the_same_place_one_does(two: Hub) -> None:
    headers = two.headers()
    two.put(PROD, {"version": "v1"}, headers)

    def move(_: int) -> int:
        return two.put(PROD, {"version": "v2", "expected": "v1"}, headers).status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(move, range(4))) == [200, 412, 412, 412]
    assert len(two.get(f"{PROD}/history").json()["items"]) == 2


# -- What an alias may be -------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["v1", "v0", "latest", "main", "head", "sha256", "abcdef0", "Prod", "-x", "x" * 65])
def test_a_word_that_means_something_else_is_no_alias(plain: Hub, word: str) -> None:
    answer = plain.put(f"{TINY}/aliases/{word}", {"version": "v1"}, plain.headers())

    assert code_of(answer) == (422, "ALIAS_INVALID")


@pytest.mark.parametrize(
    ("version", "refusal"), [("v9", (404, "VERSION_UNKNOWN")), ("latest", (422, "SELECTOR_MOVES")), ("?", (422, None))]
)
def test_an_alias_means_a_version_that_is_there_and_stays(
    plain: Hub, version: str, refusal: tuple[int, str | None]
) -> None:
    status, code = code_of(plain.put(PROD, {"version": version}, plain.headers()))

    assert (status, code if refusal[1] else None) == refusal


def test_an_alias_never_means_a_version_that_was_taken_back(two: Hub) -> None:
    headers, worse = two.headers(), {"reason": "It is worse."}
    two.put(PROD, {"version": "v2"}, headers)

    refused = two.put(f"{TINY}/versions/v2/yank", worse, headers)
    assert code_of(refused) == (409, "VERSION_IN_USE")
    assert refused.json()["facts"]["aliases"] == ["prod"]

    two.put(PROD, {"version": "v1"}, headers)
    assert two.put(f"{TINY}/versions/v2/yank", worse, headers).status_code == 200
    assert code_of(two.put(PROD, {"version": "v2"}, headers)) == (409, "VERSION_YANKED")


def test_an_adapter_has_so_many_aliases_and_no_more(plain: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hub.domain.aliases.MAX_ALIASES", 1)
    plain.put(PROD, {"version": "v1"}, plain.headers())

    answer = plain.put(f"{TINY}/aliases/staging", {"version": "v1"}, plain.headers())

    assert code_of(answer) == (409, "ALIASES_TOO_MANY")
    assert plain.put(PROD, {"version": "v2"}, plain.headers()).status_code == 200


def test_a_protected_alias_is_moved_by_maintainers_alone(hub: Hub) -> None:
    hub.register_base()
    hub.found("acme", pia="publisher", max="maintainer")
    pia, maxi = hub.headers("pia"), hub.headers("max")
    for seed in (1, 2):
        hub.push(make_archive(seed=seed), user="acme", headers=maxi)
    prod = "/adapters/acme/tiny/aliases/prod"

    assert hub.put(prod, {"version": "v1"}, pia).status_code == 201
    assert code_of(hub.put(prod, {"version": "v1", "protected": True}, pia)) == (403, "FORBIDDEN")
    assert hub.put(prod, {"version": "v1", "protected": True}, maxi).json()["protected"] is True
    assert code_of(hub.put(prod, {"version": "v2"}, pia)) == (403, "FORBIDDEN")
    assert code_of(hub.put(prod, {"version": "v1", "protected": False}, pia)) == (403, "FORBIDDEN")
    assert code_of(hub.delete(prod, pia)) == (403, "FORBIDDEN")
    moved = hub.put(prod, {"version": "v2"}, maxi).json()
    assert (moved["version"], moved["protected"], moved["updated_by"]) == (2, True, "max")
    assert hub.delete(prod, maxi).status_code == 204
