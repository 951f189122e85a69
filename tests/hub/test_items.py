"""Single items: shown where a suite says so, and otherwise nowhere; and the history of a board's top."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from hub.care.exporting import export
from hub.db.models.evaluating import Evaluation
from hub.domain.secrecy import SCORED_A_DAY
from sdk.board_tables import write_parquet
from sdk.models.boards import Leaderboard
from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub, Worker, code_of

CANARY = "canary-73b1"
FIRST, SECOND = [1, 1, 1, 1, 0, 0, 0, 0], [1, 1, 0, 0, 0, 0, 0, 1]


def suite_of(items: str | None) -> dict[str, Any]:
    suite = make_suite()
    definition: Any = suite["definition"]
    return {**suite, "definition": {**definition, **({"items": items} if items else {})}}


def asked_for(hub: Hub, ref: str) -> Any:
    return hub.post("/evaluations", {"ref": ref, "suite": "demo/topics"}, hub.headers())


def two_scored(hub: Hub, items: str | None, outputs: str = "an answer") -> tuple[str, str, Worker]:
    """The evaluations of v2 and of v1 of demo/tiny."""
    hub.register_base()
    worker, ids = hub.worker(suite_of(items)), []
    for number, outcomes in enumerate((FIRST, SECOND), 1):
        hub.push(make_archive(seed=number))
        asked_for(hub, f"demo/tiny@v{number}")
        job = worker.must_claim()
        texts = [f"{outputs} {number}.{row}" for row in range(1, 9)]
        assert worker.finish(job, outcomes, outputs=texts).status_code == 204
        ids.append(str(job["id"]))
    return ids[1], ids[0], worker


def page(hub: Hub, path: str) -> Any:
    return TestClient(hub.app, base_url="http://127.0.0.1:8000").get(path, headers={"Accept": "text/html"})


def test_items_of_a_public_suite_are_shown_where_most_is_lost_first(hub: Hub) -> None:
    ours, theirs, _ = two_scored(hub, "public")
    address = f"/evaluations/{ours}/items?against={theirs}"

    found = hub.get(address).json()

    assert (found["ref"], found["against"]) == ("demo/tiny@v2", "demo/tiny@v1")
    assert (found["worse"], found["better"], found["same"]) == (2, 1, 5)
    assert [each["item"] for each in found["items"]] == [3, 4, 1, 2, 5, 6, 7, 8]
    assert found["items"][0] == {
        "item": 3, "change": "worse", "output": "an answer 2.3", "against_output": "an answer 1.3",
        "outcome": [0.0], "against_outcome": [1.0],
    }  # fmt: skip
    assert [each["item"] for each in hub.get(f"{address}&only=better").json()["items"]] == [8]
    assert hub.get(f"/evaluations/{ours}/comparison?against={theirs}").json()["items_are_public"] is True


def test_pages_of_items_follow_one_another(hub: Hub) -> None:
    ours, theirs, _ = two_scored(hub, "public")
    address = f"/evaluations/{ours}/items?against={theirs}&only=same&limit=2"
    found, cursor = [], ""
    while True:
        answer = hub.get(f"{address}{cursor}").json()
        found += [each["item"] for each in answer["items"]]
        if answer["next"] is None:
            break
        cursor = f"&cursor={answer['next']}"
    assert found == [1, 2, 5, 6, 7]
    other_list = f"/evaluations/{ours}/items?against={theirs}{cursor}"
    assert code_of(hub.get(other_list)) == (422, "CURSOR_INVALID")


def test_the_page_shows_items_and_the_board_leads_there(sqlite_hub: Hub) -> None:
    ours, theirs, _ = two_scored(sqlite_hub, "public")
    address = f"/leaderboards/demo/topics/items?of={ours}&against={theirs}"
    text = page(sqlite_hub, address).text
    assert "an answer 2.3" in text
    assert "an answer 2.8" not in text  # that one is better
    assert "an answer 2.8" in page(sqlite_hub, f"{address}&only=better").text
    assert address.replace("&", "&amp;") in page(sqlite_hub, "/leaderboards/demo/topics").text
    assert page(sqlite_hub, address.replace("demo/topics/items", "demo/tone/items")).status_code == 404
    assert "item by item" in page(sqlite_hub, "/demo/tiny/v2/diff?against=v1").text


@pytest.mark.parametrize("items", [None, "private", "hidden"])
def test_items_of_other_suites_are_refused_and_scores_are_not(sqlite_hub: Hub, items: str | None) -> None:
    ours, theirs, _ = two_scored(sqlite_hub, items)
    assert code_of(sqlite_hub.get(f"/evaluations/{ours}/items?against={theirs}")) == (403, "ITEMS_NOT_PUBLIC")
    assert page(sqlite_hub, f"/leaderboards/demo/topics/items?of={ours}&against={theirs}").status_code == 403
    assert sqlite_hub.get(f"/evaluations/{ours}/comparison?against={theirs}").json()["delta"] == -0.125
    assert "Items against the best" not in page(sqlite_hub, "/leaderboards/demo/topics").text
    assert "item by item" not in page(sqlite_hub, "/demo/tiny/v2/diff?against=v1").text


def test_no_answer_export_or_feed_holds_an_item_of_a_hidden_suite(sqlite_hub: Hub, tmp_path: Path) -> None:
    ours, theirs, _ = two_scored(sqlite_hub, "hidden", outputs=CANARY)
    values = {
        "evaluation_id": ours, "family": "demo", "task": "topics", "namespace": "demo", "name": "tiny", "number": "2",
        "version": "v2", "ref": "v2", "suite": "demo/topics", "alias": "latest", "organisation": "demo", "repo": "tiny",
        "revision": "main", "path": "README.md", "org": "demo", "kind": "models",
    }  # fmt: skip
    asked = 0
    for route in _get_routes(sqlite_hub):
        address = route
        for name, value in values.items():
            address = address.replace(f"{{{name}}}", value).replace(f"{{{name}:path}}", value)
        if "{" in address:
            continue
        # The API refuses what an address does not read.
        for query in ("", f"?against={theirs}", f"?against={theirs}&of={ours}"):
            answer = sqlite_hub.client.get(f"{address}{query}", headers={**sqlite_hub.headers(), "Accept": "*/*"})
            asked += answer.status_code == 200
            assert CANARY not in answer.text, address
            assert '"outcome' not in answer.text or address == "/openapi.json", address
            assert '"envelope"' not in answer.text or address == "/openapi.json", address
    assert asked > 60
    export(sqlite_hub.database, None, tmp_path / "out", namespace="demo")
    written = [each.read_bytes() for each in (tmp_path / "out").rglob("*") if each.is_file()]
    assert written
    assert not any(CANARY.encode() in data or b"outcome" in data for data in written)


def _get_routes(hub: Hub) -> list[str]:
    from fastapi.routing import iter_route_contexts

    return sorted({str(each.path) for each in iter_route_contexts(hub.app.routes) if "GET" in (each.methods or ())})


def test_a_hidden_suite_scores_nothing_unasked_and_so_many_a_day(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker(suite_of("hidden"))
    for number in range(1, SCORED_A_DAY + 2):
        hub.push(make_archive(seed=number))
    assert worker.claim() is None
    for number in range(1, SCORED_A_DAY + 1):
        assert asked_for(hub, f"demo/tiny@v{number}").status_code == 202

    refused = asked_for(hub, f"demo/tiny@v{SCORED_A_DAY + 1}")

    assert code_of(refused) == (429, "HIDDEN_SUITE_LIMIT")
    assert 0 < int(refused.headers["retry-after"]) <= 24 * 3600
    assert asked_for(hub, "demo/tiny@v1").status_code == 200  # asking again is no other one
    worker.fail(worker.must_claim(), retryable=False)
    assert asked_for(hub, f"demo/tiny@v{SCORED_A_DAY + 1}").status_code == 202  # what failed told nothing
    assert code_of(asked_for(hub, "demo/tiny@v1")) == (429, "HIDDEN_SUITE_LIMIT")
    hub.push(make_archive(seed=40), user="eve")
    eve = hub.post("/evaluations", {"ref": "eve/tiny@v1", "suite": "demo/topics"}, hub.headers("eve"))
    assert eve.status_code == 202


def test_a_hidden_suite_that_comes_later_scores_nothing_unasked(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive())

    assert hub.worker(suite_of("hidden")).claim() is None
    assert hub.get("/adapters/demo/tiny/versions/v1").json()["evaluations"] == []


def test_a_score_of_a_hidden_suite_counts_for_a_day_by_whatever_definition(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(suite_of("hidden"))
    for number in range(1, SCORED_A_DAY + 2):
        sqlite_hub.push(make_archive(seed=number))
    for number in range(1, SCORED_A_DAY + 1):
        assert asked_for(sqlite_hub, f"demo/tiny@v{number}").status_code == 202
        assert worker.finish(worker.must_claim()).status_code == 204
    last = f"demo/tiny@v{SCORED_A_DAY + 1}"
    assert code_of(asked_for(sqlite_hub, last)) == (429, "HIDDEN_SUITE_LIMIT")

    suite = suite_of("hidden")
    sqlite_hub.worker({**suite, "definition": {**suite["definition"], "split": "another"}}, name="new")
    assert code_of(asked_for(sqlite_hub, last)) == (429, "HIDDEN_SUITE_LIMIT")
    with sqlite_hub.database.writing() as session:
        a_day_ago = datetime.now(UTC) - timedelta(hours=24, minutes=1)
        first = select(Evaluation.id).order_by(Evaluation.id).limit(1).scalar_subquery()
        session.execute(update(Evaluation).where(Evaluation.id == first).values(finished_at=a_day_ago))

    assert asked_for(sqlite_hub, last).status_code == 202


def test_neither_another_owner_nor_a_stranger_changes_how_many_scores_there_are(hub: Hub) -> None:
    hub.register_base()
    hub.worker(suite_of("hidden"))
    hub.found("acme")
    olga, bob = hub.headers("olga"), hub.headers("bob")
    for number in range(1, SCORED_A_DAY + 3):
        hub.push(make_archive(seed=number), user="olga")

    def ask(number: int, headers: dict[str, str], owner: str = "olga") -> int:
        wanted = {"ref": f"{owner}/tiny@v{number}", "suite": "demo/topics"}
        return int(hub.post("/evaluations", wanted, headers).status_code)

    assert [ask(number, bob) for number in range(1, SCORED_A_DAY + 2)] == [202] * SCORED_A_DAY + [429]
    assert ask(SCORED_A_DAY + 1, olga) == 202
    for number in range(1, SCORED_A_DAY):
        assert hub.push(make_archive(seed=40 + number), "other", user="olga").status_code == 201
        wanted = {"ref": f"olga/other@v{number}", "suite": "demo/topics"}
        assert hub.post("/evaluations", wanted, olga).status_code == 202
    assert ask(SCORED_A_DAY + 2, olga) == 429
    for name in ("tiny", "other"):
        moved = hub.post(f"/adapters/olga/{name}/move", {"to": f"acme/{name}"}, olga)
        assert moved.status_code == 200, moved.text
    assert ask(SCORED_A_DAY + 2, olga, "acme") == 429


def test_those_who_push_for_an_owner_share_its_scores(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.worker(suite_of("hidden"))
    sqlite_hub.found("acme", mia="publisher")
    for number in range(1, SCORED_A_DAY + 2):
        assert (
            sqlite_hub.push(make_archive(seed=number), user="acme", headers=sqlite_hub.headers("olga")).status_code
            == 201
        )

    def ask(number: int, user: str) -> int:
        wanted = {"ref": f"acme/tiny@v{number}", "suite": "demo/topics"}
        return int(sqlite_hub.post("/evaluations", wanted, sqlite_hub.headers(user)).status_code)

    by_turns = [ask(number, ("olga", "mia")[number % 2]) for number in range(1, SCORED_A_DAY + 2)]

    assert by_turns == [202] * SCORED_A_DAY + [429]


def test_two_who_ask_at_once_are_counted_one_after_another(hub: Hub) -> None:
    hub.register_base()
    hub.worker(suite_of("hidden"))
    for number in range(1, SCORED_A_DAY + 4):
        hub.push(make_archive(seed=number))
    for number in range(1, SCORED_A_DAY):
        assert asked_for(hub, f"demo/tiny@v{number}").status_code == 202

    with ThreadPoolExecutor(4) as pool:
        last = range(SCORED_A_DAY, SCORED_A_DAY + 4)
        answers = list(pool.map(lambda number: asked_for(hub, f"demo/tiny@v{number}").status_code, last))

    assert sorted(answers) == [202, 429, 429, 429]


def test_the_history_of_a_board_has_those_that_were_the_best(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    for number, right in enumerate((3, 2, 5, 5, 7), 1):
        hub.push(make_archive(seed=number))
        worker.finish(worker.must_claim(), [1] * right + [0] * (8 - right))

    history = hub.get("/leaderboards/demo/topics/history").json()

    assert [(each["ref"], each["score"]) for each in history["records"]] == [
        ("demo/tiny@v1", 3 / 8), ("demo/tiny@v3", 5 / 8), ("demo/tiny@v5", 7 / 8),
    ]  # fmt: skip
    assert hub.get("/leaderboards/demo/topics/history?owner=eve").json()["records"] == []
    assert hub.put("/adapters/demo/tiny/versions/v3/yank", {"reason": "wrong"}, hub.headers()).is_success
    refs = [each["ref"] for each in hub.get("/leaderboards/demo/topics/history").json()["records"]]
    assert refs == ["demo/tiny@v1", "demo/tiny@v4", "demo/tiny@v5"]
    text = page(hub, "/leaderboards/demo/topics/history").text
    assert text.index("demo/tiny@v5") < text.index("demo/tiny@v4") < text.index("demo/tiny@v1")
    assert "/leaderboards/demo/topics/history" in page(hub, "/leaderboards/demo/topics").text


def test_the_history_has_a_private_adapter_for_its_people_alone(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    for seed, (name, visibility, right) in enumerate(
        (("first", "public", 3), ("closed", "private", 6), ("last", "public", 5))
    ):
        assert hub.push(make_archive(seed=seed), name, visibility=visibility).status_code == 201
        worker.finish(worker.must_claim(), [1] * right + [0] * (8 - right))

    def seen(**options: Any) -> list[str]:
        records = hub.get("/leaderboards/demo/topics/history", **options).json()["records"]
        return [each["ref"] for each in records]

    assert seen() == seen(headers=hub.headers("eve")) == ["demo/first@v1", "demo/last@v1"]
    assert seen(headers=hub.headers()) == ["demo/first@v1", "demo/closed@v1"]
    assert "demo/closed" not in page(hub, "/leaderboards/demo/topics/history").text


def test_of_a_metric_of_which_less_is_better_the_history_goes_down(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker({**make_suite(items=2), "metric": "perplexity"})
    for number, nats in enumerate((2.0, 3.0, 1.0), 1):
        hub.push(make_archive(seed=number))
        assert worker.finish(worker.must_claim(), [(nats, 1), (nats, 1)]).status_code == 204
    refs = [each["ref"] for each in hub.get("/leaderboards/demo/topics/history").json()["records"]]
    assert refs == ["demo/tiny@v1", "demo/tiny@v3"]


def test_a_board_as_parquet_has_every_row_and_the_types_of_its_columns(sqlite_hub: Hub, tmp_path: Path) -> None:
    two_scored(sqlite_hub, None)
    answer = sqlite_hub.get("/leaderboards/demo/topics").json()
    answer["rows"][0]["noise"] = 0.125
    board = Leaderboard.from_json(answer)

    write_parquet(board, tmp_path / "board.parquet")
    write_parquet(Leaderboard.from_json({**answer, "rows": []}), tmp_path / "empty.parquet")

    table = pq.read_table(tmp_path / "board.parquet")
    assert table["ref"].to_pylist() == [row["ref"] for row in answer["rows"]]
    assert table["score"].to_pylist() == [row["score"] for row in answer["rows"]]
    assert table["low"].to_pylist() == [row["interval"][0] for row in answer["rows"]]
    assert table["noise"].to_pylist() == [0.125, None]
    assert table.schema.metadata[b"metric"] == b"accuracy"
    empty = pq.read_table(tmp_path / "empty.parquet")
    assert (empty.num_rows, empty.schema) == (0, table.schema)
