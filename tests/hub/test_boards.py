"""Boards: narrowed down, as CSV, and a score as an image."""

from __future__ import annotations

import csv
import io
from xml.etree import ElementTree as ET

import pytest
from starlette.testclient import TestClient

from hub.web.badges import _GREEN, badge_of
from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub
from vera.manifest import METHODS

BOARD = "/leaderboards/demo/topics"
BADGE = "/demo/tiny/badge/demo/topics.svg"


@pytest.fixture
def scored(hub: Hub) -> Hub:
    """Three adapters on one board: demo/tiny of rank 4 with all right, eve/tiny of rank 8 with half, demo/other with none."""
    hub.register_base()
    worker = hub.worker(make_suite())
    for seed, (user, name, rank, right) in enumerate(
        [("demo", "tiny", 4, 8), ("eve", "tiny", 8, 4), ("demo", "other", 4, 0)]
    ):
        assert hub.push(make_archive(seed=seed, rank=rank), name, user=user).status_code == 201
        worker.finish(worker.must_claim(), [1] * right + [0] * (8 - right))
    return hub


def names(hub: Hub, query: str) -> list[str]:
    return [row["ref"].partition("@")[0] for row in hub.get(f"{BOARD}{query}").json()["rows"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["demo/tiny", "eve/tiny", "demo/other"]),
        ("?owner=demo", ["demo/tiny", "demo/other"]),
        ("?owner=eve&max_rank=4", []),
        ("?min_rank=5", ["eve/tiny"]),
        ("?min_rank=8", ["eve/tiny"]),
        ("?min_rank=9", []),
        ("?max_rank=4", ["demo/tiny", "demo/other"]),
        ("?base=tests/tiny-encoder&owner=eve", ["eve/tiny"]),
        ("?base=tests/nothing", []),
        ("?max_bytes=1", []),
        ("?license=none-of-them", []),
    ],
)
def test_a_board_is_narrowed_down(scored: Hub, query: str, found: list[str]) -> None:
    assert names(scored, query) == found


def test_a_board_is_narrowed_down_by_size_and_licence(scored: Hub) -> None:
    sizes = {
        f"demo/{name}": scored.get(f"/adapters/demo/{name}/versions/v1").json()["size_bytes"]
        for name in ("tiny", "other")
    }

    assert names(scored, f"?owner=demo&max_bytes={max(sizes.values())}") == ["demo/tiny", "demo/other"]
    assert names(scored, f"?owner=demo&max_bytes={min(sizes.values()) - 1}") == []
    assert names(scored, "?owner=demo&license=Apache-2.0") == ["demo/tiny", "demo/other"]


def test_a_board_is_narrowed_down_by_method(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker(make_suite())
    for method in METHODS:
        assert hub.push(make_archive(method=method), method).status_code == 201
        worker.finish(worker.must_claim())
    assert names(hub, "?method=dvora") == ["demo/dvora"]
    assert names(hub, "?method=vera") == ["demo/vera"]
    assert page(hub, "/leaderboards/demo/topics?method=dvora").text.count("demo/dvora@v1") == 1
    assert "demo/vera@v1" not in page(hub, "/leaderboards/demo/topics?method=dvora").text


def test_the_best_so_many_have_the_ranks_and_ties_of_all(scored: Hub) -> None:
    everything = scored.get(BOARD).json()["rows"]
    assert scored.get(f"{BOARD}?limit=2").json()["rows"] == everything[:2]
    assert scored.get(f"{BOARD}?limit=0").status_code == 422


def test_of_equal_scores_the_smaller_comes_first_and_then_the_earlier(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(make_suite())
    for seed, (name, rank) in enumerate((("large", 8), ("small", 4), ("later", 4))):
        assert sqlite_hub.push(make_archive(seed=seed, rank=rank), name).status_code == 201
        worker.finish(worker.must_claim())

    assert names(sqlite_hub, "") == ["demo/small", "demo/later", "demo/large"]
    assert names(sqlite_hub, "?limit=1") == ["demo/small"]


def test_a_tie_is_with_the_best_of_the_moment(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(make_suite(items=40))
    for seed, right in enumerate((20, 22)):
        assert sqlite_hub.push(make_archive(seed=seed), f"right-{right}").status_code == 201
        worker.finish(worker.must_claim(), [1] * right + [0] * (40 - right))
    before = [row["tied_with_best"] for row in sqlite_hub.get(BOARD).json()["rows"]]

    assert sqlite_hub.push(make_archive(seed=3), "right-40").status_code == 201
    worker.finish(worker.must_claim(), [1] * 40)

    assert before == [True, True]
    assert [row["tied_with_best"] for row in sqlite_hub.get(BOARD).json()["rows"]] == [True, False, False]


def test_a_tie_is_by_the_metric_of_its_own_board(sqlite_hub: Hub) -> None:
    """Five of eight: too few for McNemar's test (p = 0.06), and enough for a bootstrap of what items earned."""
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(make_suite(), {**make_suite("demo/gains"), "metric": "rouge_l"})
    for seed, right in enumerate((8, 3)):
        assert sqlite_hub.push(make_archive(seed=seed), f"right-{right}").status_code == 201
        for _ in range(2):
            worker.finish(worker.must_claim(), [1] * right + [0] * (8 - right))

    tied = {
        suite: [row["tied_with_best"] for row in sqlite_hub.get(f"/leaderboards/demo/{suite}").json()["rows"]]
        for suite in ("topics", "gains")
    }
    assert tied == {"topics": [True, True], "gains": [True, False]}


def test_a_board_of_opinions_ranks_nobody(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker({**make_suite(), "metric": "judged"})
    for seed, (name, rating) in enumerate((("bad", 1), ("good", 9), ("middling", 5))):
        assert sqlite_hub.push(make_archive(seed=seed), name).status_code == 201
        worker.finish(worker.must_claim(), [rating] * 8)

    rows = sqlite_hub.get(BOARD).json()["rows"]

    assert [row["ref"] for row in rows] == ["demo/bad@v1", "demo/good@v1", "demo/middling@v1"]
    assert {row["rank"] for row in rows} == {1}
    assert [row["ref"] for row in sqlite_hub.get(f"{BOARD}?limit=2").json()["rows"]] == ["demo/bad@v1", "demo/good@v1"]
    assert sqlite_hub.get(f"{BOARD}/history").json()["records"] == []


def test_a_board_that_was_shown_a_moment_ago_has_the_next_result(scored: Hub) -> None:
    before = names(scored, "")
    worker = scored.worker(make_suite())
    scored.push(make_archive(seed=8), "late")
    worker.finish(worker.must_claim())
    assert sorted(names(scored, "")) == sorted([*before, "demo/late"])


def test_ranks_are_among_what_is_shown_and_a_row_says_what_it_cost(scored: Hub) -> None:
    rows = scored.get(f"{BOARD}?min_rank=5").json()["rows"]
    assert [(row["rank"], row["tied_with_best"], row["seconds"]) for row in rows] == [(1, True, 0.5)]


def page(hub: Hub, path: str, **headers: str):
    return TestClient(hub.app, base_url="http://127.0.0.1:8000").get(path, headers={"Accept": "*/*", **headers})


def test_a_row_says_how_much_hangs_on_the_layout_where_that_was_measured(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(make_suite())
    measured = [{"items": 8, "batch_size": 16, "changed": 1, "score": 0.125}, None, {"score": "a lot"}]
    for seed, noise in enumerate(measured):
        assert sqlite_hub.push(make_archive(seed=seed), f"adapter-{seed}").status_code == 201
        environment = {"device": "cpu", "noise": noise}
        done = worker.finish(worker.must_claim(), [1] * (8 - seed) + [0] * seed, environment=environment)
        assert done.status_code == 204, done.text

    assert [row["noise"] for row in sqlite_hub.get(BOARD).json()["rows"]] == [0.125, None, None]
    page = sqlite_hub.client.get(BOARD).text
    assert page.count("±0.1250 by batching") == 1
    assert "is how far a score moves" in page
    rows = csv.DictReader(io.StringIO(sqlite_hub.client.get(f"{BOARD}/export.csv").text))
    assert [(row["ref"], row["noise"]) for row in rows] == [
        ("demo/adapter-0@v1", "0.125"), ("demo/adapter-1@v1", ""), ("demo/adapter-2@v1", "")
    ]  # fmt: skip


def test_the_table_for_spreadsheets_holds_what_the_api_says(scored: Hub) -> None:
    answer = page(scored, f"{BOARD}/export.csv?owner=demo")

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="demo-topics.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    said = scored.get(f"{BOARD}?owner=demo").json()["rows"]
    assert [(row["ref"], float(row["accuracy"]), float(row["low"]), int(row["vector_bytes"])) for row in rows] == [
        (row["ref"], row["score"], row["interval"][0], row["vector_bytes"]) for row in said
    ]
    assert (
        page(scored, f"{BOARD}/export.csv?owner=demo", **{"If-None-Match": answer.headers["etag"]}).status_code == 304
    )


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_a_name_is_no_formula(sqlite_hub: Hub, sign: str) -> None:
    sqlite_hub.register_base(name=f"{sign}cmd|calc")
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive())
    worker.finish(worker.must_claim())

    (row,) = csv.DictReader(io.StringIO(page(sqlite_hub, f"{BOARD}/export.csv").text))

    assert row["base"] == f"'{sign}cmd|calc"


def test_the_badge_shows_the_score_and_changes_with_it(scored: Hub) -> None:
    first = page(scored, BADGE)
    assert first.headers["content-type"] == "image/svg+xml"
    assert first.headers["content-security-policy"] == "default-src 'none'"
    assert "".join(ET.fromstring(first.text).itertext()).startswith("demo/topics: Accuracy 1.000")
    assert page(scored, BADGE, **{"If-None-Match": first.headers["etag"]}).status_code == 304

    scored.push(make_archive(seed=9))
    waiting = page(scored, BADGE)

    assert waiting.headers["etag"] != first.headers["etag"]
    assert "waiting" in waiting.text
    assert (_GREEN in first.text, _GREEN in waiting.text) == (True, False)
    assert "not scored" in page(scored, "/demo/tiny/badge/demo/nothing.svg").text
    assert page(scored, "/demo/nobody/badge/demo/topics.svg").status_code == 404


def test_the_badge_of_a_private_adapter_is_for_nobody_else(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive(), visibility="private")
    assert page(sqlite_hub, BADGE).status_code == 404


def test_what_stands_in_a_badge_is_words() -> None:
    image = badge_of('<script>"&', None)
    assert "<script>" not in image
    assert next(ET.fromstring(image).itertext()) == '<script>"&: not scored'


def test_a_badge_does_not_grow_with_the_name_of_its_suite() -> None:
    assert badge_of("x" * 60, None) == badge_of("x" * 130, None)
    assert badge_of("x" * 60, None) != badge_of("x" * 59, None)
