"""Which worker is given which job: what one lacks is left to those that have it, and why a job waits is said."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import make_archive, make_suite
from tests.hub.harness import Hub

NEEDS_JAVA = "meteor needs Java: install a Java runtime."
SUITE = make_suite(also=["meteor"])
LACKS = {"demo/topics": {"meteor": NEEDS_JAVA}}


def pushed(hub: Hub, seed: int = 0) -> None:
    assert hub.push(make_archive(seed=seed)).status_code == 201


def waiting(hub: Hub, number: int = 1) -> dict[str, Any]:
    (found,) = hub.get(f"/adapters/demo/tiny/versions/v{number}").json()["evaluations"]
    return dict(found)


def test_a_suite_is_left_to_a_worker_that_computes_all_of_it(hub: Hub) -> None:
    hub.register_base()
    without = hub.worker(SUITE, name="without", lacks=LACKS)
    whole = hub.worker(SUITE, name="whole")
    pushed(hub)

    assert without.claim() is None
    assert waiting(hub)["reason"] == f"It waits for whole. On without: {NEEDS_JAVA}"
    assert f"On without: {NEEDS_JAVA}" in hub.client.get("/demo/tiny").text
    assert whole.claim() is not None


def test_who_is_alone_takes_what_it_cannot_compute_all_of(hub: Hub) -> None:
    hub.register_base()
    without = hub.worker(SUITE, name="without", lacks=LACKS)
    hub.worker(make_suite("demo/other", labels=("x", "y")), name="of-another-suite")
    pushed(hub)

    assert waiting(hub)["reason"] is None
    assert without.claim() is not None


def test_what_the_whole_worker_cannot_load_is_not_left_to_it(hub: Hub) -> None:
    hub.register_base()
    parameters = hub.get("/bases").json()["items"][0]["parameters"]
    without = hub.worker(SUITE, name="without", lacks=LACKS)
    small = hub.worker(SUITE, name="whole-and-small", memory_bytes=4 * parameters - 1)
    other = hub.worker(SUITE, name="whole-of-another-base")
    assert other.claim(bases=[f"vbf1:{0:064}"]) is None
    pushed(hub)

    assert small.claim() is None
    assert waiting(hub)["reason"] is None
    assert without.claim() is not None


def test_a_worker_that_went_away_is_not_waited_for(hub: Hub) -> None:
    hub.register_base()
    hub.worker(SUITE, name="whole")
    hub.let_workers_fall_silent()
    without = hub.worker(SUITE, name="without", lacks=LACKS)
    pushed(hub)

    assert without.claim() is not None


def test_a_suite_that_no_worker_can_rank_waits_with_what_each_lacks(hub: Hub) -> None:
    hub.register_base()
    gone = hub.worker(SUITE, name="whole")
    assert gone.claim() is None
    hub.let_workers_fall_silent()
    for name in ("a", "b"):
        hub.worker(make_suite("demo/other", labels=("x", "y")), name=name, lacks=LACKS)
    pushed(hub)

    assert waiting(hub)["reason"] == f"No connected worker can run demo/topics. On a, b: {NEEDS_JAVA}"


def test_what_a_worker_lacks_is_what_it_said_last(hub: Hub) -> None:
    hub.register_base()
    hub.worker(SUITE, name="whole")
    hub.worker(SUITE, name="other", lacks=LACKS)
    other = hub.worker(SUITE, name="other")
    pushed(hub)

    assert other.claim() is not None


def test_where_memory_ran_short_a_job_waits_for_more_and_that_was_no_attempt(hub: Hub) -> None:
    hub.register_base()
    first = hub.worker(name="first", memory_bytes=8_000_000_000)
    same = hub.worker(name="same", memory_bytes=8_000_000_000)
    pushed(hub)
    job = first.must_claim()

    done = first.fail(job, code="OUT_OF_MEMORY", detail="Not for one item.", retryable=True)

    assert done.status_code == 204
    seen = waiting(hub)
    assert (seen["state"], seen["attempts"]) == ("waiting", 0)
    assert "8.0 GB were too little, and the largest of them has 8.0 GB" in seen["reason"]
    assert (first.claim(), same.claim()) == (None, None)
    large = hub.worker(name="large", memory_bytes=16_000_000_000)
    assert waiting(hub)["reason"] == "OUT_OF_MEMORY: Not for one item."
    assert large.must_claim()["id"] == job["id"]


@pytest.mark.parametrize(("missing", "comes"), [(0, True), (4, False)])
def test_memory_for_the_base_in_float32_is_enough_and_a_number_less_is_not(
    hub: Hub, missing: int, *, comes: bool
) -> None:
    parameters = hub.get(f"/bases/{hub.register_base()}").json()["parameters"]
    worker = hub.worker(memory_bytes=4 * parameters - missing)
    pushed(hub)

    assert (waiting(hub)["reason"] is None) is comes
    assert (worker.claim() is not None) is comes


def test_who_asks_again_asks_every_worker_again(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker(memory_bytes=8_000_000_000)
    pushed(hub)
    job = worker.must_claim()
    worker.fail(job, code="OUT_OF_MEMORY", detail="Not for one item.", retryable=True)
    assert hub.post(f"/evaluations/{job['id']}/cancel", {}, hub.headers()).status_code == 200

    hub.post("/evaluations", {"ref": job["ref"], "suite": "demo/topics"}, hub.headers())

    assert worker.must_claim()["id"] == job["id"]


def test_where_nobody_says_its_memory_running_short_is_an_attempt(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    pushed(hub)
    for _ in range(3):
        worker.fail(worker.must_claim(), code="OUT_OF_MEMORY", detail="Not for one item.", retryable=True)

    assert (waiting(hub)["state"], waiting(hub)["attempts"]) == ("failed", 3)


def test_how_long_it_may_take_goes_by_those_that_will_come(hub: Hub) -> None:
    hub.register_base()
    for name in ("a", "b"):
        hub.worker(SUITE, name=name, lacks=LACKS)
    whole = hub.worker(SUITE, name="whole")
    pushed(hub)
    whole.finish(whole.must_claim())
    for seed in (1, 2):
        pushed(hub, seed)

    took = waiting(hub)["seconds"]

    assert [waiting(hub, number)["estimate_seconds"] for number in (2, 3)] == [took, 2 * took]
