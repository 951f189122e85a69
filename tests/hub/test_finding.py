"""Searches: what adapters are found by, in which order, by whom, and what there is to narrow them down to."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from sqlalchemy import event, text, update

from hub.app import prepare_database
from hub.db.models.adapters import Adapter
from hub.db.models.finding import Listing
from hub.db.queries import listings, searching
from hub.domain import finding
from hub.domain.cards import MAX_TAGS, read_facts
from tests.builders import make_archive, make_base, make_suite
from tests.hub.harness import Hub, code_of
from vera.manifest import WEIGHTS_FILE

CARD = """---
tags: [Dutch, news, "not/a\\ttag"]
license: mit
datasets: wikinews
---
# Café headlines
Sorts headlines.
"""


def _found(hub: Hub, query: str = "", **options: Any) -> list[str]:
    answer = hub.get(f"/adapters{query}", **options)
    assert answer.status_code == 200, answer.text
    return [item["id"] for item in answer.json()["items"]]


def _facet(hub: Hub, name: str, query: str = "", **options: Any) -> dict[str, int]:
    answer = hub.get(f"/adapters/facets{query}", **options)
    assert answer.status_code == 200, answer.text
    return {each["value"]: each["count"] for each in answer.json()[name]}


@pytest.fixture
def shelf(hub: Hub) -> Hub:
    """Four adapters of two owners: the first has a card with facts, and the last is private."""
    other = make_base(salt="other")
    hub.register_base(name="acme/Llama-2-tiny")
    hub.register_base(other, "acme/vit-small")
    hub.push(make_archive(seed=1, card=CARD, training={"data": "local.csv"}), "headlines", user="ann")
    hub.push(make_archive(seed=2, rank=4, labels=()), "quotes", user="ann")
    hub.push(make_archive(seed=3, base=other), "pictures", user="bob")
    hub.push(make_archive(seed=4, card=CARD), "secrets", user="bob", visibility="private")
    return hub


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("search=headl", ["ann/headlines"]),
        ("search=ann", ["ann/quotes", "ann/headlines"]),
        ("search=ann/q", ["ann/quotes"]),
        ("search=CAFE", ["ann/headlines"]),
        ("search=café+dutch+ann", ["ann/headlines"]),
        ("search=vit", ["bob/pictures"]),
        ("search=apache", ["bob/pictures", "ann/quotes", "ann/headlines"]),
        ("search=eadlines", []),
        ("search=headlines+pictures", []),
        ("family=llama", ["ann/quotes", "ann/headlines"]),
        ("family=vit", ["bob/pictures"]),
        ("license=Apache-2.0&owner=bob", ["bob/pictures"]),
        ("tag=dutch", ["ann/headlines"]),
        ("tag=Dutch&tag=news", ["ann/headlines"]),
        ("tag=dutch&tag=french", []),
        ("dataset=wikinews", ["ann/headlines"]),
        ("dataset=local.csv", ["ann/headlines"]),
        ("max_rank=4", ["ann/quotes"]),
        ("min_rank=5", ["bob/pictures", "ann/headlines"]),
        ("max_bytes=1", []),
        ("task=text-classification&base=acme/vit-small", ["bob/pictures"]),
        ("owner=nobody", []),
    ],
)
def test_adapters_are_found_by_what_they_are(shelf: Hub, query: str, found: list[str]) -> None:
    assert _found(shelf, f"?{query}") == found


@pytest.mark.parametrize("word", ["a\u19b0b", "b\u1cf2", "Dutch\u2122", "\U0001d400lpha", "\U0001e900\U0001e922"])
def test_words_of_every_script_are_found_on_both_databases(hub: Hub, word: str) -> None:
    hub.register_base()
    hub.push(make_archive(card=f"# About {word}\n"), "written")

    assert _found(hub, f"?search={word}") == _found(hub, f"?search={word.casefold()}") == ["demo/written"]
    assert _found(hub, "?search=dutchtm") == (["demo/written"] if "\u2122" in word else [])


def test_an_adapter_is_found_by_its_matrices(hub: Hub) -> None:
    hub.register_base()
    first = hub.push(make_archive(seed=1), "one").json()
    hub.push(make_archive(seed=2), "two")
    hub.push(make_archive(seed=3, rank=4), "three")

    assert _found(hub, f"?projection={first['manifest']['projection']['digest']}") == ["demo/two", "demo/one"]


def test_what_is_found_says_what_it_weighs(shelf: Hub) -> None:
    item = shelf.get("/adapters?search=headlines").json()["items"][0]

    version = shelf.get("/adapters/ann/headlines/versions/latest").json()
    facts = ("rank", "vector_bytes", "head_bytes", "size_bytes")
    assert {name: item[name] for name in facts} == {name: version[name] for name in facts}
    assert (item["tags"], item["license"], item["downloads"]) == (["dutch", "news"], "apache-2.0", 0)
    assert (item["score"], item["bytes_per_point"]) == (None, None)
    assert "left out" in version["warnings"][-1]


def test_a_new_version_takes_the_place_of_the_one_before(shelf: Hub) -> None:
    shelf.push(make_archive(seed=9, card="# Nothing of that\n"), "headlines", user="ann")

    assert _found(shelf, "?search=café") == _found(shelf, "?tag=dutch") == _found(shelf, "?dataset=wikinews") == []
    assert _found(shelf, "?search=nothing") == ["ann/headlines"]
    assert _found(shelf)[0] == "ann/headlines"


def test_what_was_taken_back_is_not_what_an_adapter_is_found_by(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive(seed=1, card="# Oranges\n"), "fruit")
    hub.push(make_archive(seed=2, card="# Lemons\n"), "fruit")
    hub.push(make_archive(seed=3), "later")
    path, demo = "/adapters/demo/fruit/versions/v2/yank", hub.headers("demo")

    assert hub.client.put(f"/api/v1{path}", json={"reason": "sour"}, headers=demo).is_success

    assert (_found(hub, "?search=lemons"), _found(hub, "?search=oranges")) == ([], ["demo/fruit"])
    assert _found(hub) == ["demo/later", "demo/fruit"]  # it keeps its place


def test_private_adapters_are_found_and_counted_by_those_who_see_them_alone(shelf: Hub) -> None:
    bob = shelf.headers("bob")

    for query in ("?search=secrets", "?tag=dutch&owner=bob", "?owner=bob&sort=name&search=headlines"):
        assert _found(shelf, query) == []
        assert _found(shelf, query, headers=bob) == ["bob/secrets"]
    assert _facet(shelf, "tags") == {"dutch": 1, "news": 1}
    assert _facet(shelf, "tags", headers=bob) == {"dutch": 2, "news": 2}
    assert _facet(shelf, "owners") == {"ann": 2, "bob": 1}
    assert shelf.get("/adapters/facets").json()["counted"] == 3


def test_an_adapter_that_becomes_private_is_gone_from_the_lists_at_once(shelf: Hub) -> None:
    path, bob = "/api/v1/adapters/bob/pictures", shelf.headers("bob")
    assert shelf.client.patch(path, json={"visibility": "private"}, headers=bob).status_code == 200

    assert _found(shelf, "?search=pictures") == []
    assert _facet(shelf, "owners") == {"ann": 2}
    assert _found(shelf, "?search=pictures", headers=bob) == ["bob/pictures"]


def test_facets_count_what_a_search_finds(shelf: Hub) -> None:
    assert _facet(shelf, "bases") == {"acme/Llama-2-tiny": 2, "acme/vit-small": 1}
    assert _facet(shelf, "families") == {"llama": 2, "vit": 1}
    assert _facet(shelf, "ranks", "?family=llama") == {"4": 1, "8": 1}
    assert _facet(shelf, "tasks", "?family=llama") == {"text-classification": 1}
    assert _facet(shelf, "licenses", "?search=nothing-like-it") == {}
    assert shelf.get("/adapters/facets").json()["is_complete"] is True


def test_ranks_that_are_as_frequent_stand_by_their_size(hub: Hub) -> None:
    hub.register_base()
    for rank in (16, 4, 8):
        assert hub.push(make_archive(rank=rank), name=f"of-{rank}").status_code == 201

    assert list(_facet(hub, "ranks")) == ["4", "8", "16"]


def test_facets_say_when_they_did_not_count_everything(shelf: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finding, "MOST_COUNTED", 2)

    answer = shelf.get("/adapters/facets").json()

    assert (answer["counted"], answer["is_complete"]) == (2, False)
    assert answer["owners"] == [{"value": "ann", "count": 1}, {"value": "bob", "count": 1}]


# -- Scores ---------------------------------------------------------------------------------------


@pytest.fixture
def scored(hub: Hub) -> Hub:
    """Three adapters with 8, 4 and 0 of 8 right, the first of which is four times as large, and one without a score."""
    hub.register_base()
    worker = hub.worker()
    for name, rank, right in (("large", 64, 8), ("small", 4, 4), ("wrong", 4, 0)):
        hub.push(make_archive(seed=right, rank=rank), name)
        worker.finish(worker.must_claim(), [1] * right + [0] * (8 - right))
    hub.push(make_archive(seed=9), "waiting")
    return hub


def test_adapters_are_sorted_by_their_score_on_a_suite(scored: Hub) -> None:
    assert _found(scored, "?suite=demo/topics&sort=score") == ["demo/large", "demo/small", "demo/wrong"]
    assert _found(scored, "?suite=demo/topics&sort=score&min_score=0.5") == ["demo/large", "demo/small"]
    assert _found(scored, "?suite=demo/topics&min_score=0.9&search=l") == ["demo/large"]
    item = scored.get("/adapters?suite=demo/topics&sort=score").json()["items"][1]
    assert item["score"] == 0.5
    assert item["bytes_per_point"] == (item["vector_bytes"] + item["head_bytes"]) / 50


def test_adapters_are_sorted_by_what_a_point_takes(scored: Hub) -> None:
    items = scored.get("/adapters?suite=demo/topics&sort=bytes-per-point").json()["items"]

    assert {each["id"] for each in items} == {"demo/large", "demo/small"}  # no point was made by the wrong one
    assert [each["bytes_per_point"] for each in items] == sorted(each["bytes_per_point"] for each in items)


def test_where_less_is_better_the_best_come_first(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker({**make_suite(items=2), "metric": "mean_squared_error"})
    for error in (1, 3, 2):
        assert hub.push(make_archive(seed=error), f"off-by-{error}").status_code == 201
        assert worker.finish(worker.must_claim(), [[0.0, error]] * 2).status_code == 204

    assert _found(hub, "?suite=demo/topics&sort=score") == [f"demo/off-by-{error}" for error in (1, 2, 3)]
    assert _found(hub, "?suite=demo/topics&sort=score&min_score=4") == ["demo/off-by-1", "demo/off-by-2"]
    assert {each["bytes_per_point"] for each in hub.get("/adapters?suite=demo/topics").json()["items"]} == {None}
    refused = hub.get("/adapters?suite=demo/topics&sort=bytes-per-point")
    assert code_of(refused) == (422, "SORT_MEANINGLESS")


def test_a_new_version_has_no_score_until_it_is_evaluated(scored: Hub) -> None:
    scored.push(make_archive(seed=99), "large")

    assert _found(scored, "?suite=demo/topics&sort=score") == ["demo/small", "demo/wrong"]


def test_scores_need_a_suite(scored: Hub) -> None:
    for query in ("sort=score", "sort=bytes-per-point", "min_score=0.5"):
        assert code_of(scored.get(f"/adapters?{query}")) == (422, "SUITE_MISSING")
    assert code_of(scored.get("/adapters/facets?min_score=0.5")) == (422, "SUITE_MISSING")
    assert code_of(scored.get("/adapters?suite=no/suite")) == (404, "SUITE_UNKNOWN")


def test_the_most_downloaded_come_first_and_a_new_version_keeps_its_adapters_downloads(hub: Hub) -> None:
    hub.register_base()
    for name in ("first", "second"):
        hub.push(make_archive(seed=len(name)), name)
    pushed = hub.get("/adapters/demo/first/versions/v1").json()
    weights = next(file["sha256"] for file in pushed["files"] if file["path"] == WEIGHTS_FILE)
    hub.get(f"/adapters/demo/first/blobs/{weights}")
    hub.app.state.services.downloads.flush()
    hub.push(make_archive(seed=9), "first")
    hub.push(make_archive(seed=10), "second")

    items = hub.get("/adapters?sort=downloads").json()["items"]
    assert [(each["id"], each["downloads"]) for each in items] == [("demo/first", 1), ("demo/second", 0)]


# -- Pages ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "sort=updated",
        "sort=name",
        "sort=downloads",
        "suite=demo/topics&sort=score",
        "suite=demo/topics&sort=bytes-per-point",
    ],
)
def test_pages_hold_everything_once_in_every_order(scored: Hub, query: str) -> None:
    following, seen = f"/adapters?{query}&limit=1", []
    while following:
        answer = scored.get(following.removeprefix("/api/v1"))
        assert answer.status_code == 200, answer.text
        seen += [item["id"] for item in answer.json()["items"]]
        link = answer.headers.get("link", "")
        assert bool(link) == (answer.json()["next"] is not None)
        following = link.partition(">")[0].removeprefix("<")

    assert seen == _found(scored, f"?{query}")
    assert len(seen) >= 2


def test_a_cursor_is_good_for_the_hub_and_the_order_that_gave_it(scored: Hub) -> None:
    cursor = scored.get("/adapters?limit=1").json()["next"]
    signed = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    moved = base64.urlsafe_b64encode(signed[:12] + json.dumps(["updated", 1]).encode()).decode().rstrip("=")

    assert _found(scored, f"?limit=1&cursor={cursor}") == ["demo/wrong"]
    for query in (
        f"cursor={moved}",
        f"cursor={cursor}&sort=name",
        f"cursor={cursor[:-2]}",
        "cursor=WyJ1cGRhdGVkIiwxXQ",
    ):
        assert code_of(scored.get(f"/adapters?{query}")) == (422, "CURSOR_INVALID")


# -- How it is kept -------------------------------------------------------------------------------


def test_adapters_of_an_earlier_release_are_listed_when_the_hub_starts(shelf: Hub) -> None:
    before = {query: _found(shelf, query) for query in ("", "?search=café", "?tag=dutch", "?sort=name")}
    with shelf.database.writing() as session:
        for listing in session.query(Listing).all():
            listings.remove(session, listing)
    assert _found(shelf) == []

    prepare_database(shelf.database)

    assert {query: _found(shelf, query) for query in before} == before


def test_a_push_that_is_refused_lists_nothing(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive(seed=1), "my-name")
    assert sqlite_hub.push(make_archive(seed=2), "my.name").status_code == 409

    assert _found(sqlite_hub) == ["demo/my-name"]
    with sqlite_hub.database.reading() as session:
        assert session.scalar(text("SELECT count(*) FROM listing_words")) == 1


@pytest.fixture
def headlines(sqlite_hub: Hub) -> Hub:
    """One adapter, on a database whose plans can be read."""
    sqlite_hub.register_base(name="acme/llama")
    worker = sqlite_hub.worker()
    sqlite_hub.push(make_archive(card=CARD), "headlines")
    worker.finish(worker.must_claim())
    return sqlite_hub


@pytest.mark.parametrize(
    ("order", "index"),
    [
        ("sort=updated", "SCAN listings"),  # the table itself is in this order
        ("sort=name", "sqlite_autoindex_listings_2"),
        ("sort=downloads", "ix_listings_downloads_id"),
        ("suite=demo/topics&sort=score", "ix_listing_scores_score"),
        ("suite=demo/topics&sort=bytes-per-point", "ix_listing_scores_bytes_per_point"),
    ],
)
@pytest.mark.parametrize(
    "narrowed",
    [
        "",
        "&search=headlines",
        "&tag=dutch&license=apache-2.0",
        "&base=acme/llama",
        "&min_rank=1&max_rank=100000&max_bytes=100000000",
        "&suite=demo/topics&min_score=0",
    ],
)
def test_what_many_are_is_read_in_order_from_an_index(
    headlines: Hub, monkeypatch: pytest.MonkeyPatch, order: str, narrowed: str, index: str
) -> None:
    monkeypatch.setattr(searching, "FEW", 0)  # so that one is many

    narrowed = narrowed.removeprefix("&suite=demo/topics") if "suite=" in order else narrowed
    plan = _plan_of(headlines, f"/api/v1/adapters?{order}{narrowed}")

    assert index in plan[0]
    assert not any("TEMP B-TREE FOR ORDER" in step for step in plan), plan


@pytest.mark.parametrize(
    ("narrowed", "index"),
    [
        ("search=headlines", "VIRTUAL TABLE INDEX"),
        ("tag=dutch", "sqlite_autoindex_listing_terms_1"),
        ("family=llama", "ix_listings_family_id"),
        ("base=acme/llama", "ix_listings_base_id_id"),
        ("max_rank=100000", "ix_listings_rank_id"),
        ("min_rank=1", "ix_listings_rank_id"),
        ("max_bytes=100000000", "ix_listings_size_bytes_id"),
        ("suite=demo/topics", "ix_listing_scores_"),
        ("suite=demo/topics&min_score=0", "ix_listing_scores_score"),
    ],
)
@pytest.mark.parametrize("order", ["sort=updated", "sort=name"])
def test_what_few_are_is_where_a_search_begins(headlines: Hub, order: str, narrowed: str, index: str) -> None:
    plan = _plan_of(headlines, f"/api/v1/adapters?{order}&{narrowed}")

    assert any(index in step for step in plan), plan
    assert not any(step.startswith("SCAN listings") for step in plan), plan


@pytest.mark.parametrize("asked", ["num_parameters=min:1", "num_parameters=max:1M&sort=createdAt"])
def test_a_search_of_the_other_wire_begins_with_the_numbers_that_few_are(headlines: Hub, asked: str) -> None:
    plan = _plan_of(headlines, f"/api/models?{asked}")

    assert any("ix_listings_numbers_id" in step for step in plan), plan
    assert not any(step.startswith("SCAN listings") for step in plan), plan


@pytest.mark.parametrize(("path", "begins"), [("/adapters", "SELECT listing_terms"), ("/adapters/facets", "WITH")])
def test_tags_are_those_of_listings_and_not_looked_for_in_all_there_are(headlines: Hub, path: str, begins: str) -> None:
    plan = _plan_of(headlines, f"/api/v1{path}?owner=demo", begins=begins)

    assert any("SEARCH listing_terms USING INDEX ix_listing_terms_listing_id" in step for step in plan), plan


@pytest.mark.parametrize("first", [1, 2, 500])
@pytest.mark.parametrize("sort", ["updated", "name", "downloads"])
@pytest.mark.parametrize(
    "words", ["headl", "ann", "CAFE", "café+dutch+ann", "apache", "vit", "eadlines", "ann+nowhere"]
)
def test_words_that_many_have_are_found_as_those_of_few_are(
    shelf: Hub, monkeypatch: pytest.MonkeyPatch, words: str, sort: str, first: int
) -> None:
    few = _found(shelf, f"?search={words}&sort={sort}")
    monkeypatch.setattr(searching, "FEW", 0)
    monkeypatch.setattr(searching, "FIRST", first)

    assert _found(shelf, f"?search={words}&sort={sort}") == few
    assert _walk(shelf, f"?search={words}&sort={sort}&limit=1") == few


def test_a_page_of_words_that_many_have_is_read_from_the_first_listings_alone(
    sqlite_hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_hub.register_base()
    for number in range(3):
        sqlite_hub.push(make_archive(seed=number), f"headlines-{number}")
    monkeypatch.setattr(searching, "FEW", 0)

    first = _statements_of(sqlite_hub, "/api/v1/adapters?search=headlines&limit=2")
    last = _statements_of(sqlite_hub, "/api/v1/adapters?search=headlines&limit=3")

    assert ["MATCH" in statement for statement, _ in first] == [False]
    assert ["MATCH" in statement for statement, _ in last] == [False, True]


def _walk(hub: Hub, query: str) -> list[str]:
    """What is found, page by page."""
    following, seen = f"/adapters{query}", []
    while following:
        answer = hub.get(following.removeprefix("/api/v1"))
        assert answer.status_code == 200, answer.text
        seen += [item["id"] for item in answer.json()["items"]]
        following = answer.headers.get("link", "").partition(">")[0].removeprefix("<")
    return seen


def _plan_of(hub: Hub, path: str, *, begins: str = "SELECT listings") -> list[str]:
    """How SQLite goes about the last statement that finds the page at `path`."""
    statement, parameters = _statements_of(hub, path, begins=begins)[-1]
    with hub.database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [str(row[3]) for row in rows]


def _statements_of(hub: Hub, path: str, *, begins: str = "SELECT listings") -> list[tuple[str, Any]]:
    """The statements in order that find the page at `path`."""
    statements: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if statement.startswith(begins) and "ORDER BY" in statement:
            statements.append((statement, parameters))

    event.listen(hub.database.engine, "before_cursor_execute", note)
    try:
        assert hub.client.get(path).status_code == 200
    finally:
        event.remove(hub.database.engine, "before_cursor_execute", note)
    return statements


# -- Cards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "yaml",
    [
        "a: &a [1]\nb: *a",
        "a: &a [x, x]\nb: &b [*a, *a]",
        "[" * 3000,
        "tags: !!python/object/apply:os.system [id]",
        "\t: x",
        "tags: 2026-13-45",
        "tags: !!bool maybe",
        "tags: !!int ''",
        "tags: !!timestamp soon",
        f"tags: {':'.join(200 * '1')}.5",
    ],
)
def test_yaml_that_is_broken_or_meant_to_hurt_is_not_used(yaml: str) -> None:
    facts = read_facts(f"---\n{yaml}\n---\n# Card\n")

    assert (facts.tags, facts.datasets, facts.license) == ((), (), None)
    assert len(facts.warnings) == 1


def test_an_adapter_that_is_hidden_while_a_page_is_read_ends_no_list(hub: Hub) -> None:
    """As PostgreSQL may show it, where each statement sees what was committed before it."""
    hub.register_base()
    for seed in range(5):
        hub.push(make_archive(seed=seed), f"number-{seed}")
    with hub.database.writing() as session:
        session.execute(update(Adapter).where(Adapter.name == "number-3").values(is_private=True))

    seen, cursor = [], None
    for _ in range(3):
        page = hub.get("/adapters", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [each["name"] for each in page["items"]]
        cursor = page["next"]

    assert (seen, cursor) == (["number-4", "number-2", "number-1", "number-0"], None)


def test_a_card_without_facts_says_none() -> None:
    for card in ("# Card\n", "---\ntags: 7\nlicense: [1]\n---\n", "---\nno end", ""):
        assert read_facts(card) == read_facts("")


def test_too_many_tags_are_left_out_with_a_warning() -> None:
    many = ", ".join(f"t{number}" for number in range(MAX_TAGS + 1))
    facts = read_facts(f"---\ntags: [{many}]\n---\n")

    assert len(facts.tags) == MAX_TAGS
    assert f"'t{MAX_TAGS}'" in facts.warnings[0]


@pytest.mark.parametrize(
    ("base", "family"),
    [
        ("meta-llama/Llama-2-7b-hf", "llama"),
        ("roberta-base", "roberta"),
        ("Qwen/Qwen2.5-0.5B", "qwen"),
        ("google/vit-base-patch16", "vit"),
        ("123/456", "123/456"),
    ],
)
def test_the_family_of_a_base_is_how_its_name_begins(base: str, family: str) -> None:
    assert finding.family_of(base) == family


def test_adapters_are_narrowed_down_by_their_numbers(hub: Hub) -> None:
    hub.register_base()
    for seed, rank in enumerate((4, 8)):
        assert hub.push(make_archive(seed=seed, rank=rank), f"rank-{rank}").status_code == 201
    total = hub.client.get("/api/models/demo/rank-4").json()["safetensors"]["total"]
    for asked, found in ((f"max:{total}", ["demo/rank-4"]), (f"min:{total + 1}", ["demo/rank-8"])):
        assert _with_numbers(hub, asked) == found


def test_what_an_earlier_release_has_listed_is_found_by_its_numbers_when_a_hub_has_started(hub: Hub) -> None:
    hub.register_base()
    for seed, dtype in enumerate(("float32", "float16")):
        hub.push(make_archive(seed=seed, dtype=dtype), dtype)
    total = hub.client.get("/api/models/demo/float16").json()["safetensors"]["total"]
    with hub.database.writing() as session:
        session.execute(update(Listing).values(numbers=None))
    assert _with_numbers(hub, "min:1") == []

    prepare_database(hub.database)

    assert _with_numbers(hub, f"min:{total},max:{total}") == ["demo/float16", "demo/float32"]
    assert _with_numbers(hub, f"min:{total + 1}") == _with_numbers(hub, f"max:{total - 1}") == []


def _with_numbers(hub: Hub, wanted: str) -> list[str]:
    return [each["id"] for each in hub.client.get(f"/api/models?num_parameters={wanted}").json()]
