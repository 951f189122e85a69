"""The tasks of a group: what each is worth stands beside the group's one score, where that tells of no single item."""

from __future__ import annotations

from typing import Any

import pytest

from hub.scoring.statistics import wilson_interval
from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub, code_of
from tests.hub.test_items import asked_for, page

SIZES = {"large": 12, "other": 3, "small": 10}
# By turns: three of each, then of the two that have more, then of the one.
TURNS = ["large", "other", "small"] * 3 + ["large", "small"] * 7 + ["large"] * 2
RIGHT = {"large": [1] * 9 + [0] * 3, "other": [0, 1, 0], "small": [1, 0] * 5}


def group(*, items: str | None = None, sizes: dict[str, Any] = SIZES) -> dict[str, Any]:
    suite = make_suite(items=len(TURNS))
    stated = {name: {"task_version": 1.0, "num_fewshot": 5, "items": size} for name, size in sizes.items()}
    definition: Any = suite["definition"]
    more = {"harness": {"tasks": stated}, **({"items": items} if items else {})}
    return {**suite, "definition": {**definition, **more}}


def credits_of_all() -> list[int]:
    rights = {name: iter(each) for name, each in RIGHT.items()}
    return [next(rights[name]) for name in TURNS]


def scored(hub: Hub, suite: dict[str, Any], outcomes: list[Any] | None = None, **more: Any) -> str:
    hub.register_base()
    worker = hub.worker(suite)
    hub.push(make_archive())
    asked_for(hub, "demo/tiny@v1")
    job = worker.must_claim()
    assert worker.finish(job, outcomes or credits_of_all(), **more).status_code == 204
    return str(job["id"])


def test_each_task_of_a_group_has_its_score(hub: Hub) -> None:
    number = scored(hub, group(items="public"))

    found = hub.get(f"/evaluations/{number}/tasks").json()

    assert (found["ref"], found["suite"], found["metric"]) == ("demo/tiny@v1", "demo/topics", "accuracy")
    assert [(each["task"], each["items"]) for each in found["tasks"]] == list(SIZES.items())
    assert [each["scores"]["accuracy"]["score"] for each in found["tasks"]] == [9 / 12, 1 / 3, 1 / 2]
    assert found["tasks"][0]["scores"]["accuracy"]["interval"] == list(wilson_interval(RIGHT["large"]))
    assert {(each["version"], each["num_fewshot"]) for each in found["tasks"]} == {("1", 5)}
    assert hub.get(f"/evaluations/{number}").json()["tasks"] == 3


def test_a_mean_over_tasks_is_that_of_the_tasks_it_shows(sqlite_hub: Hub) -> None:
    places = list(SIZES)
    outcomes = [[credit, places.index(name)] for credit, name in zip(credits_of_all(), TURNS, strict=True)]
    number = scored(sqlite_hub, {**group(items="public"), "metric": "harness_macro"}, outcomes)

    found = sqlite_hub.get(f"/evaluations/{number}/tasks").json()["tasks"]

    shown = [each["scores"]["harness_macro"]["score"] for each in found]
    assert shown == [9 / 12, 1 / 3, 1 / 2]
    assert sqlite_hub.get(f"/evaluations/{number}").json()["score"] == pytest.approx(sum(shown) / 3)


def test_a_task_of_few_items_has_no_score_unless_items_are_public(sqlite_hub: Hub) -> None:
    number = scored(sqlite_hub, group())

    found = sqlite_hub.get(f"/evaluations/{number}/tasks").json()["tasks"]

    assert [bool(each["scores"]) for each in found] == [True, False, True]


def test_where_answers_are_hidden_no_task_has_a_score(sqlite_hub: Hub) -> None:
    number = scored(sqlite_hub, group(items="hidden"))

    assert code_of(sqlite_hub.get(f"/evaluations/{number}/tasks")) == (403, "TASKS_NOT_SHOWN")
    assert sqlite_hub.get(f"/evaluations/{number}").json()["tasks"] == 0
    assert page(sqlite_hub, f"/leaderboards/demo/topics/tasks?of={number}").status_code == 403
    for address in ("/leaderboards/demo/topics", "/demo/tiny"):
        assert "tasks?of=" not in page(sqlite_hub, address).text


@pytest.mark.parametrize("sizes", [{}, {"large": 12}, {"large": 24, "other": 0, "small": 1}, {"large": "25"}], ids=str)
def test_what_does_not_make_up_a_suite_is_no_group(sqlite_hub: Hub, sizes: dict[str, Any]) -> None:
    number = scored(sqlite_hub, group(items="public", sizes=sizes))

    assert sqlite_hub.get(f"/evaluations/{number}/tasks").json()["tasks"] == []
    assert sqlite_hub.get(f"/evaluations/{number}").json()["tasks"] == 0


def test_tasks_are_scored_when_the_group_is(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.worker(group())
    sqlite_hub.push(make_archive())
    number = asked_for(sqlite_hub, "demo/tiny@v1").json()["id"]

    assert code_of(sqlite_hub.get(f"/evaluations/{number}/tasks")) == (409, "EVALUATION_NOT_DONE")


def test_the_page_shows_the_tasks_and_adapter_and_board_lead_there(sqlite_hub: Hub) -> None:
    number = scored(sqlite_hub, group(items="public"))
    address = f"/leaderboards/demo/topics/tasks?of={number}"

    text = page(sqlite_hub, address).text

    assert all(f'<th scope="row">{name}</th>' in text for name in SIZES)
    assert "Accuracy 0.750" in text
    assert address in page(sqlite_hub, "/leaderboards/demo/topics").text
    assert address in page(sqlite_hub, "/demo/tiny").text
    assert page(sqlite_hub, address.replace("topics", "tone")).status_code == 404


def test_the_tasks_of_a_private_adapter_are_for_nobody_else(sqlite_hub: Hub) -> None:
    number = scored(sqlite_hub, group(items="public"))
    hidden = sqlite_hub.client.patch(
        "/api/v1/adapters/demo/tiny", json={"visibility": "private"}, headers=sqlite_hub.headers()
    )
    assert hidden.status_code == 200

    assert code_of(sqlite_hub.get(f"/evaluations/{number}/tasks")) == (404, "EVALUATION_UNKNOWN")
    assert code_of(sqlite_hub.get(f"/evaluations/{number}/tasks", headers=sqlite_hub.headers("eve")))[0] == 404
    assert sqlite_hub.get(f"/evaluations/{number}/tasks", headers=sqlite_hub.headers()).status_code == 200
    assert page(sqlite_hub, f"/leaderboards/demo/topics/tasks?of={number}").status_code == 404
