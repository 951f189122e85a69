"""Scores that a card says: shown as said, and nothing is decided by them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hub.domain.reported import MOST, reported_scores
from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub

TOPICS = {"name": "demo/topics", "type": "topics"}


def index(*metrics: object, dataset: object = TOPICS) -> dict[str, Any]:
    return {"model-index": [{"name": "x", "results": [{"dataset": dataset, "metrics": list(metrics)}]}]}


def card(facts: dict[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(facts)}---\n# An adapter\n"


def test_what_a_card_says_stands_apart_from_what_was_measured(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker(make_suite())
    said = index({"type": "accuracy", "value": 0.999}, {"name": "F1 <b>", "type": "f1", "value": 1})
    pushed = hub.push(make_archive(card=card(said)))
    assert pushed.status_code == 201, pushed.text

    version = hub.get("/adapters/demo/tiny/versions/v1").json()
    page = hub.client.get("/demo/tiny", headers={"Accept": "text/html"}).text

    assert (
        version["reported"]
        == pushed.json()["reported"]
        == [
            {"dataset": "demo/topics", "metric": "accuracy", "value": 0.999},
            {"dataset": "demo/topics", "metric": "F1 <b>", "value": 1.0},
        ]
    )
    assert "Nobody here has measured these" in page
    assert "F1 &lt;b&gt;" in page
    assert hub.get("/leaderboards/demo/topics").json()["rows"] == []
    assert hub.get("/adapters?suite=demo/topics&sort=score").json()["items"] == []
    worker.finish(worker.must_claim(), [1] * 4 + [0] * 4)
    assert [row["score"] for row in hub.get("/leaderboards/demo/topics").json()["rows"]] == [0.5]


def test_a_card_that_says_none_has_none(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()

    assert sqlite_hub.push(make_archive()).json()["reported"] == []
    assert "Said by its publisher" not in sqlite_hub.client.get("/demo/tiny", headers={"Accept": "text/html"}).text


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {"model-index": "good"},
        {"model-index": [1, {"results": "good"}]},
        index({"type": "accuracy", "value": "0.9"}),
        index({"type": "accuracy", "value": True}),
        index({"type": "accuracy", "value": float("nan")}),
        index({"type": "accuracy", "value": 10**400}),
        index({"value": 0.9}),
        index({"type": "accuracy", "value": 0.9}, dataset="topics"),
        index("accuracy"),
    ],
    ids=range(10),
)
def test_what_is_no_score_is_left_out(facts: dict[str, Any]) -> None:
    assert reported_scores(facts) == ()


def test_there_are_not_too_many_and_none_too_long() -> None:
    found = reported_scores(index(*({"name": f"\x1bm{'x' * 500}", "value": each} for each in range(100))))

    assert len(found) == MOST
    assert found[0].metric == f"m{'x' * 99}"
