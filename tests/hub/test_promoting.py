"""A gate that is green moves an alias, in one transaction; any other moves nothing."""

from __future__ import annotations

import pytest
from httpx2 import Response

from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub, code_of

ITEMS = 100
ALIAS = "/adapters/demo/tiny/aliases/prod"
# v1, one as good, one that is slightly worse and one that clearly is.
RIGHT = (70, 70, 68, 40)


@pytest.fixture
def scored(hub: Hub) -> tuple[Hub, list[str]]:
    """demo/tiny with four scored versions, and the ids of their evaluations. prod means v1."""
    hub.register_base()
    worker = hub.worker(make_suite(items=ITEMS))
    ids = []
    for seed, right in enumerate(RIGHT):
        hub.push(make_archive(seed=seed))
        job = worker.must_claim()
        assert worker.finish(job, [1] * right + [0] * (ITEMS - right)).status_code == 204
        ids.append(str(job["id"]))
    hub.put(ALIAS, {"version": "v1"}, hub.headers())
    return hub, ids


def promote(hub: Hub, evaluation: str, **body: object) -> Response:
    return hub.post(f"{ALIAS}/promotions", {"evaluation": evaluation, **body}, hub.headers())


def meaning(hub: Hub) -> int:
    return int(hub.get(ALIAS).json()["version"])


def test_a_green_gate_moves_the_alias_and_the_record_says_why(scored: tuple[Hub, list[str]]) -> None:
    hub, ids = scored

    moved = promote(hub, ids[1], against=ids[0], minimum="accuracy>=0.7")

    assert (moved.status_code, moved.json()["version"], meaning(hub)) == (200, 2, 2)
    event = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"][0]
    assert (event["action"], event["facts"]["before"], event["facts"]["after"]) == ("alias.set", 1, 2)
    assert event["facts"]["evaluation"] == ids[1]
    assert event["facts"]["gates"] == ["min accuracy>=0.7", "no regression vs demo/tiny@v1"]


@pytest.mark.parametrize(
    ("version", "gates", "verdict"),
    [
        (2, {"against": 0}, "inconclusive"),
        (3, {"against": 0}, "fail"),
        (1, {"minimum": "accuracy>=0.71"}, "fail"),
        (1, {"against": 0, "minimum": "accuracy>=0.71"}, "fail"),
    ],
    ids=["inconclusive", "worse", "below the floor", "one of two"],
)
def test_any_other_gate_moves_nothing(
    scored: tuple[Hub, list[str]], version: int, gates: dict[str, object], verdict: str
) -> None:
    hub, ids = scored
    against = {"against": ids[0]} if "against" in gates else {}

    refused = promote(hub, ids[version], **{**gates, **against})

    assert code_of(refused) == (409, "GATE_NOT_PASSED")
    assert refused.json()["facts"]["verdict"] == verdict
    assert meaning(hub) == 1


def test_a_margin_lets_a_small_loss_pass(scored: tuple[Hub, list[str]]) -> None:
    hub, ids = scored
    assert promote(hub, ids[2], against=ids[0], margin=0.06).status_code == 200
    assert meaning(hub) == 3


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        ({}, "GATE_INVALID"),
        ({"minimum": "good"}, "GATE_INVALID"),
        ({"minimum": "f1>=0.1"}, "GATE_INVALID"),
        ({"against": "self", "margin": 1.5}, "GATE_INVALID"),
        ({"margin": -1, "against": "self"}, "BODY_INVALID"),
    ],
    ids=["none", "no gate", "another metric", "always open", "negative"],
)
def test_what_is_no_gate_is_refused(scored: tuple[Hub, list[str]], gates: dict[str, object], code: str) -> None:
    hub, ids = scored
    own = {"against": ids[1]} if "against" in gates else {}

    assert code_of(promote(hub, ids[1], **{**gates, **own}))[1] == code
    assert meaning(hub) == 1


def test_an_alias_that_moved_meanwhile_stays_where_it_is(scored: tuple[Hub, list[str]]) -> None:
    hub, ids = scored
    seen = hub.get(ALIAS).headers["etag"]
    hub.put(ALIAS, {"version": "v3"}, hub.headers())

    body = {"evaluation": ids[1], "against": ids[0]}
    refused = hub.post(f"{ALIAS}/promotions", body, {**hub.headers(), "If-Match": seen})

    assert code_of(refused) == (412, "ALIAS_CHANGED")
    assert meaning(hub) == 3


def test_the_evaluation_of_another_adapter_moves_nothing(scored: tuple[Hub, list[str]]) -> None:
    hub, ids = scored
    hub.push(make_archive(seed=9), name="other")
    refused = hub.post(
        "/adapters/demo/other/aliases/prod/promotions", {"evaluation": ids[0], "minimum": "accuracy>=0"}, hub.headers()
    )
    assert code_of(refused) == (422, "EVALUATION_OF_ANOTHER")


def test_who_may_not_move_the_alias_learns_nothing_of_the_gate(scored: tuple[Hub, list[str]]) -> None:
    hub, ids = scored
    green, red = {"against": ids[0]}, {"minimum": "accuracy>=0.99"}
    for gate in (green, red):
        refused = hub.post(f"{ALIAS}/promotions", {"evaluation": ids[1], **gate}, hub.headers("eve"))
        assert refused.status_code == 403, gate
        assert "accuracy" not in refused.text
    assert meaning(hub) == 1
