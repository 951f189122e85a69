"""What changed between versions, where they come from, and how the pages show it."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from tests.builders import MODULES, make_archive, make_base
from tests.hub.harness import Hub, code_of
from vera.adapter_difference import compare_adapters

TINY = "/adapters/demo/tiny"
FIRST = make_archive(seed=1, training={"epochs": 3})
SECOND = make_archive(seed=2, training={"epochs": 5}, card="# A tiny adapter\n\nTrained longer.\n")


@pytest.fixture
def two(hub: Hub) -> Hub:
    hub.register_base()
    for archive in (FIRST, SECOND):
        assert hub.push(archive).status_code == 201
    return hub


def test_the_hub_gives_the_numbers_that_are_computed_at_home(two: Hub) -> None:
    diff = two.get(f"{TINY}/versions/v2/diff?against=v1").json()

    names = ("demo/tiny@v1", "demo/tiny@v2")
    at_home = asdict(compare_adapters(FIRST, SECOND, names=names))
    assert (diff.pop("before"), diff.pop("after"), diff.pop("evaluations")) == (*names, [])
    assert diff.keys() == at_home.keys()
    assert diff["vectors"] == [{**each, "norms": list(each["norms"])} for each in at_home["vectors"]]
    assert diff["fields"] == [{"name": "training.epochs", "before": 3, "after": 5}]
    assert "+Trained longer." in diff["card"]
    assert (diff["same_projection"], diff["added"], diff["removed"]) == (True, [], [])


def test_a_diff_compares_scores_item_by_item(two: Hub) -> None:
    worker = two.worker()
    worker.finish(worker.must_claim(), (1, 0, 0, 0, 0, 0, 0, 0))
    worker.finish(worker.must_claim(), (1, 1, 1, 0, 0, 0, 0, 0))

    (score,) = two.get(f"{TINY}/versions/v2/diff?against=v1").json()["evaluations"]

    assert (score["suite"], score["before"], score["after"]) == ("demo/topics", 0.125, 0.375)
    assert score["comparison"]["delta"] == 0.25
    assert "+0.2500" in two.client.get("/demo/tiny/v2/diff?against=v1").text


def test_modules_that_come_and_go_are_named(two: Hub) -> None:
    two.push(make_archive(seed=3, modules=MODULES[:1], base=make_base()), "small")

    smaller = two.get("/adapters/demo/small/versions/v1/diff?against=demo/tiny@v1").json()
    larger = two.get(f"{TINY}/versions/v1/diff?against=demo/small@v1").json()

    assert (smaller["removed"], smaller["added"]) == ([MODULES[1][0]], [])
    assert (larger["added"], larger["same_projection"]) == ([MODULES[1][0]], False)
    page = two.client.get("/demo/small/v1/diff?against=demo/tiny@v1").text
    assert "No longer adapts" in page
    assert "other frozen matrices" in page


def test_a_diff_with_what_is_hidden_is_none(two: Hub) -> None:
    two.push(make_archive(seed=4), "hidden", user="ann", visibility="private")
    path = f"{TINY}/versions/v1/diff?against=ann/hidden@v1"

    assert code_of(two.get(path)) == (404, "ADAPTER_UNKNOWN")
    assert code_of(two.get(path, headers=two.headers())) == (404, "ADAPTER_UNKNOWN")
    assert two.get("/adapters/ann/hidden/versions/v1/diff?against=demo/tiny@v1").status_code == 404
    assert two.get(path, headers=two.headers("ann")).json()["before"] == "ann/hidden@v1"


@pytest.mark.parametrize(("against", "status"), [("v9", 404), ("no such", 422), ("@", 422), ("", 422)])
def test_a_diff_against_nothing_is_refused(sqlite_hub: Hub, against: str, status: int) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(FIRST)

    assert sqlite_hub.get(f"{TINY}/versions/v1/diff", params={"against": against}).status_code == status
    page = sqlite_hub.client.get("/demo/tiny/v1/diff", params={"against": against}, headers={"Accept": "text/html"})
    assert page.status_code == status


def test_weights_that_are_too_large_are_compared_at_home(sqlite_hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(FIRST)
    monkeypatch.setattr("hub.domain.differences.MAX_WEIGHTS_BYTES", 100)

    assert code_of(sqlite_hub.get(f"{TINY}/versions/v1/diff?against=v1")) == (422, "DIFF_TOO_LARGE")


def test_equal_versions_have_no_difference(two: Hub) -> None:
    diff = two.get(f"{TINY}/versions/v1/diff?against=v1").json()

    assert all(each["is_equal"] for each in diff["vectors"])
    assert (diff["fields"], diff["card"]) == ([], "")
    assert "vectors are equal" in two.client.get("/demo/tiny/v1/diff?against=v1").text


# -- Lineage --------------------------------------------------------------------------------------


def test_lineage_goes_back_to_the_first_and_on_to_what_was_made_from_it(two: Hub) -> None:
    two.push(make_archive(seed=5), "fork", user="ann", parent="demo/tiny@v2")
    two.push(make_archive(seed=6), "secret", user="ann", visibility="private", parent="demo/tiny@v2")

    fork = two.get("/adapters/ann/fork/versions/v1/lineage").json()
    seen = two.get(f"{TINY}/versions/v2/lineage").json()

    assert fork["ancestors"] == ["demo/tiny@v2", "demo/tiny@v1"]
    assert (seen["ancestors"], seen["children"]) == (["demo/tiny@v1"], ["ann/fork@v1"])
    assert two.get(f"{TINY}/versions/v2/lineage", headers=two.headers("ann")).json()["children"] == [
        "ann/secret@v1",
        "ann/fork@v1",
    ]
    assert 'href="/ann/fork/v1"' in two.client.get("/demo/tiny/v2").text
    assert "Fork of" in two.client.get("/ann/fork").text


def test_lineage_ends_where_it_is_hidden(two: Hub) -> None:
    two.push(make_archive(seed=5), "hidden", user="ann", visibility="private", parent="demo/tiny@v1")
    two.push(make_archive(seed=6), "open", user="ann", parent="ann/hidden@v1")

    assert two.get("/adapters/ann/open/versions/v1/lineage").json()["ancestors"] == []
    theirs = two.get("/adapters/ann/open/versions/v1/lineage", headers=two.headers("ann")).json()
    assert theirs["ancestors"] == ["ann/hidden@v1", "demo/tiny@v1"]


# -- Pages ----------------------------------------------------------------------------------------


def test_the_page_of_an_alias_shows_where_it_was(two: Hub) -> None:
    for number in (1, 2):
        two.put(f"{TINY}/aliases/prod", {"version": f"v{number}"}, two.headers())

    adapter = two.client.get("/demo/tiny").text
    history = two.client.get("/demo/tiny/aliases/prod")

    assert 'href="/demo/tiny/aliases/prod"' in adapter
    assert history.status_code == 200
    assert 'href="/demo/tiny/v1"' in history.text
    assert two.client.get("/demo/tiny/aliases/never", headers={"Accept": "text/html"}).status_code == 404
    assert two.client.get("/demo/tiny@prod").status_code == 200


def test_the_page_of_an_alias_answers_what_it_meant_at_a_time(two: Hub) -> None:
    for number in (1, 2):
        two.put(f"{TINY}/aliases/prod", {"version": f"v{number}"}, two.headers())
    first = two.get(f"{TINY}/aliases/prod/history").json()["items"][1]["at"]

    def asked(at: str) -> str:
        answer = two.client.get("/demo/tiny/aliases/prod", params={"at": at})
        assert answer.status_code == 200
        return answer.text

    assert 'It meant <a href="/demo/tiny/v1">v1</a>' in asked(first)
    assert "demo set it for the first time" in asked("2020-02-29")
    assert "&#39;&lt;b&gt;&#39; is no time" in asked("<b>")
    assert 'role="alert"' not in asked("")


def test_the_page_says_what_became_of_each_version(two: Hub) -> None:
    two.push(make_archive(seed=7), prerelease="true")
    headers = two.headers()
    two.put(f"{TINY}/versions/v1/yank", {"reason": "It is <worse>."}, headers)
    two.put(f"{TINY}/versions/v2/deprecation", {"message": "Old.", "replacement": "demo/tiny@v3"}, headers)
    two.delete(f"{TINY}/versions/v3?reason=Wrong.", headers)

    page = two.client.get("/demo/tiny").text

    assert "Yanked: It is &lt;worse&gt;." in page
    assert "Deleted: Wrong." in page
    assert 'href="/demo/tiny/v3"' not in page.split("<table")[-1]
    assert "This version is deprecated: Old." in page
