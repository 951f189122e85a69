"""The evaluation queue: leases, fences, fairness, results that count once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import insert, inspect, select, update

from hub.db import session as db
from hub.db.models.evaluating import Evaluation
from hub.domain.jobs import MAX_ATTEMPTS
from hub.scoring.statistics import wilson_interval
from tests.builders import make_archive, make_base, make_suite
from tests.hub.harness import Hub, code_of
from tests.signing import shown


def _push(hub: Hub, seed: int = 0, user: str = "demo") -> str:
    answer = hub.push(make_archive(seed=seed), user=user)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ref"])


def _state(hub: Hub, evaluation_id: str) -> str:
    return str(hub.get(f"/evaluations/{evaluation_id}").json()["state"])


def test_a_job_says_all_that_a_worker_needs(hub: Hub) -> None:
    fingerprint = hub.register_base(name="acme/encoder")
    worker = hub.worker(make_suite(batch_size=16))
    version = hub.push(make_archive()).json()

    job = worker.must_claim()

    assert (job["ref"], job["version_digest"], job["commit"]) == ("demo/tiny@v1", version["digest"], version["commit"])
    assert job["base"] == {"name": "acme/encoder", "revision": None, "fingerprint": fingerprint}
    suite = hub.get("/suites/demo/topics").json()
    assert job["spec"] == {
        "suite": "demo/topics",
        "suite_digest": suite["digest"],
        "base": fingerprint,
        "dtype": "float32",
        "seed": 0,
        "batch_size": 16,
    }
    assert (job["suite"], job["fence"], job["lease_seconds"]) == ("demo/topics", 1, 60)
    assert worker.claim() is None


def test_a_result_becomes_a_score_with_its_interval(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    job = worker.must_claim()
    outcomes = [1, 1, 1, 0, 1, 1, 0, 1]

    assert worker.finish(job, outcomes).status_code == 204

    evaluation = hub.get(f"/evaluations/{job['id']}").json()
    assert evaluation["state"] == "done"
    assert evaluation["score"] == 0.75
    assert tuple(evaluation["interval"]) == wilson_interval(outcomes)
    assert (evaluation["items"], evaluation["attempts"], evaluation["worker"]) == (8, 1, "w")
    assert evaluation["environment"] == {"device": "cpu"}
    assert hub.get("/adapters/demo/tiny/versions/v1").json()["evaluations"] == [evaluation]


def test_a_waiting_evaluation_says_where_it_stands_and_why(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub, 1)
    _push(hub, 2)

    second = hub.get("/adapters/demo/tiny/versions/v2").json()["evaluations"][0]
    assert (second["state"], second["position"], second["reason"]) == ("waiting", 2, None)

    worker.claim(bases=["vbf1:" + "0" * 64])
    second = hub.get(f"/evaluations/{second['id']}").json()
    assert "has the base tests/tiny-encoder" in second["reason"]


def test_without_a_worker_it_says_so(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    sqlite_hub.worker()
    _push(sqlite_hub)
    with sqlite_hub.database.writing() as session:
        session.connection().exec_driver_sql("UPDATE workers SET last_seen_at = '2020-01-01 00:00:00.000000'")

    evaluation = sqlite_hub.get("/evaluations/1").json()

    assert evaluation["reason"] == "No worker is connected: start one with `vera-hub worker`."


def test_versions_that_were_there_before_the_suite_are_evaluated_too(hub: Hub) -> None:
    hub.register_base()
    _push(hub, 1)
    _push(hub, 2)
    other = hub.push(make_archive(labels=("x", "y")), "other").json()

    worker = hub.worker()

    assert {worker.must_claim()["ref"], worker.must_claim()["ref"]} == {"demo/tiny@v1", "demo/tiny@v2"}
    assert worker.claim() is None
    assert hub.get(f"/adapters/demo/other/versions/{other['commit']}").json()["evaluations"] == []


def test_a_worker_gets_only_bases_it_can_load(hub: Hub) -> None:
    fingerprint = hub.register_base()
    worker = hub.worker()
    _push(hub)

    assert worker.claim(bases=[]) is None
    assert worker.claim(bases=["vbf1:" + "1" * 64]) is None
    assert worker.claim(bases=[fingerprint]) is not None


def test_a_worker_gets_only_suites_it_brought(hub: Hub) -> None:
    hub.register_base()
    hub.worker(make_suite("demo/topics"))
    stranger = hub.worker(make_suite("demo/tone", labels=("x", "y")), name="stranger")
    stranger.suites = ("demo/topics", "demo/tone")
    _push(hub)

    assert stranger.claim() is None


def test_a_worker_gets_only_the_suites_it_asks_for(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker(make_suite("demo/topics"), make_suite("demo/tone"))
    _push(hub)
    worker.suites = ("demo/tone",)

    assert worker.must_claim()["suite"] == "demo/tone"
    assert worker.claim() is None


def test_a_job_whose_worker_went_silent_is_given_to_another(hub: Hub) -> None:
    hub.register_base()
    first, second = hub.worker(name="first"), hub.worker(name="second")
    _push(hub)
    lost = first.must_claim()
    hub.let_leases_run_out()
    assert _state(hub, lost["id"]) == "waiting"

    taken = second.must_claim()

    assert (taken["id"], taken["fence"]) == (lost["id"], lost["fence"] + 1)


def test_what_a_silent_worker_sends_late_changes_nothing(hub: Hub) -> None:
    hub.register_base()
    first, second = hub.worker(name="first"), hub.worker(name="second")
    _push(hub)
    lost = first.must_claim()
    hub.let_leases_run_out()
    taken = second.must_claim()

    assert code_of(first.finish(lost, [1] * 8)) == (409, "LEASE_EXPIRED")
    assert code_of(first.heartbeat(lost)) == (409, "LEASE_EXPIRED")
    assert code_of(first.fail(lost, retryable=False)) == (409, "LEASE_EXPIRED")
    assert _state(hub, taken["id"]) == "running"

    assert second.finish(taken, [0] * 8).status_code == 204
    assert code_of(first.finish(lost, [1] * 8)) == (409, "LEASE_EXPIRED")
    assert hub.get(f"/evaluations/{taken['id']}").json()["score"] == 0.0


def test_a_result_after_the_lease_is_refused_even_when_nobody_else_took_the_job(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    job = worker.must_claim()
    hub.let_leases_run_out()

    assert code_of(worker.finish(job)) == (409, "LEASE_EXPIRED")


def test_a_worker_that_took_its_own_job_again_cannot_end_it_with_the_old_fence(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    before = worker.must_claim()
    hub.let_leases_run_out()
    now = worker.must_claim()

    assert code_of(worker.finish(before, [1] * 8)) == (409, "LEASE_EXPIRED")
    assert code_of(worker.heartbeat(before)) == (409, "LEASE_EXPIRED")
    assert code_of(worker.fail(before, retryable=False)) == (409, "LEASE_EXPIRED")
    assert worker.finish(now, [0] * 8).status_code == 204


def test_a_heartbeat_keeps_the_job(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    job = worker.must_claim()

    assert worker.heartbeat(job).status_code == 204

    assert worker.claim() is None
    assert worker.finish(job).status_code == 204


def test_a_heartbeat_says_how_many_items_are_answered(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    job = worker.must_claim()

    def seen() -> tuple[str, int | None]:
        view = hub.get(f"/evaluations/{job['id']}").json()
        return view["state"], view["items_done"]

    assert seen() == ("running", None)
    assert worker.heartbeat(job, items_done=3).status_code == 204
    assert seen() == ("running", 3)
    assert "3 of 8 items are answered. " in hub.client.get("/demo/tiny").text  # what may follow stands apart
    assert code_of(worker.heartbeat(job, items_done=9)) == (422, "PROGRESS_INVALID")
    assert seen() == ("running", 3)

    hub.let_leases_run_out()
    assert seen() == ("waiting", None)
    job = worker.must_claim()
    assert seen() == ("running", None)  # nothing of what the lost attempt had answered
    worker.heartbeat(job, items_done=8)
    worker.finish(job)
    assert seen() == ("done", None)


def test_what_is_answered_says_how_long_the_rest_will_take(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    for seed in range(2):
        _push(hub, seed)
    worker.finish(worker.must_claim())
    job = worker.must_claim()
    with hub.database.writing() as session:
        stored = session.get_one(Evaluation, int(job["id"]))
        stored.started_at = db.now(session) - timedelta(minutes=10)
    worker.heartbeat(job, items_done=6)

    estimate = hub.get(f"/evaluations/{job['id']}").json()["estimate_seconds"]

    assert 200 <= estimate < 300  # a third of the ten minutes and of what this test has taken


def test_a_worker_cannot_speak_for_the_job_of_another(hub: Hub) -> None:
    hub.register_base()
    worker, thief = hub.worker(name="first"), hub.worker(name="thief")
    _push(hub)
    job = worker.must_claim()

    assert code_of(thief.finish(job)) == (409, "LEASE_EXPIRED")
    assert code_of(thief.heartbeat(job)) == (409, "LEASE_EXPIRED")
    assert code_of(thief.fail(job, retryable=False)) == (409, "LEASE_EXPIRED")
    assert worker.finish(job).status_code == 204


def test_a_result_counts_once(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    job = worker.must_claim()
    worker.finish(job, [0] * 8)

    assert code_of(worker.finish(job, [1] * 8)) == (409, "RESULT_DUPLICATE")
    assert hub.get(f"/evaluations/{job['id']}").json()["score"] == 0.0


def test_a_failure_that_may_pass_is_tried_three_times(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)

    for attempt in range(1, MAX_ATTEMPTS + 1):
        job = worker.must_claim()
        assert job["fence"] == attempt
        assert worker.fail(job, retryable=True).status_code == 204

    assert worker.claim() is None
    evaluation = hub.get(f"/evaluations/{job['id']}").json()
    assert (evaluation["state"], evaluation["attempts"]) == ("failed", MAX_ATTEMPTS)
    assert evaluation["reason"] == "BASE_UNAVAILABLE: No such base here."


def test_a_failure_that_will_not_pass_ends_the_job(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    job = worker.must_claim()

    worker.fail(job, retryable=False)

    assert _state(hub, job["id"]) == "failed"
    assert worker.claim() is None


def test_an_evaluation_that_failed_is_tried_again_on_request(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    wanted = {"ref": _push(hub), "suite": "demo/topics"}
    failed = worker.must_claim()
    worker.fail(failed, retryable=False)

    again = hub.post("/evaluations", wanted, hub.headers())
    once_more = hub.post("/evaluations", wanted, hub.headers())

    assert (again.status_code, once_more.status_code) == (202, 200)
    waiting = again.json()
    assert (waiting["id"], waiting["state"], waiting["attempts"], waiting["position"]) == (
        failed["id"],
        "waiting",
        0,
        1,
    )
    assert (waiting["reason"], waiting["worker"], waiting["finished_at"]) == (None, None, None)
    job = worker.must_claim()
    assert (job["id"], job["fence"]) == (failed["id"], failed["fence"] + 1)  # the failed attempt cannot speak for it
    assert code_of(worker.finish(failed)) == (409, "LEASE_EXPIRED")
    assert worker.finish(job).status_code == 204
    assert hub.post("/evaluations", wanted, hub.headers()).json()["state"] == "done"


def test_a_job_that_kills_its_workers_is_given_up(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    for _ in range(MAX_ATTEMPTS):
        job = worker.must_claim()
        hub.let_leases_run_out()

    assert worker.claim() is None
    evaluation = hub.get(f"/evaluations/{job['id']}").json()
    assert evaluation["state"] == "failed"
    assert "stopped answering" in evaluation["reason"]


def test_owners_take_turns(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    for seed in range(4):
        _push(hub, seed, user="flood")
    _push(hub, 0, user="ann")
    _push(hub, 0, user="bob")

    order = []
    for _ in range(6):
        job = worker.must_claim()
        order.append(job["ref"].partition("/")[0])
        worker.finish(job)

    assert order == ["flood", "ann", "bob", "flood", "flood", "flood"]


def test_the_owner_with_the_fewest_running_comes_first(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    for seed in range(3):
        _push(hub, seed, user="flood")
    running = [worker.must_claim(), worker.must_claim()]
    _push(hub, 0, user="ann")

    assert [job["ref"].partition("/")[0] for job in running] == ["flood", "flood"]
    assert worker.must_claim()["ref"] == "ann/tiny@v1"


def test_ten_thousand_jobs_of_one_owner_do_not_keep_another_waiting(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub, user="flood")
    with hub.database.writing() as session:
        first = session.scalars(select(Evaluation)).one()
        like = {column.key: getattr(first, column.key) for column in inspect(Evaluation).columns if column.key != "id"}
        rows = [like | {"spec_digest": f"sha256:{number:064x}"} for number in range(10_000)]
        session.execute(insert(Evaluation), rows)
    running = [worker.must_claim(), worker.must_claim()]
    for seed, user in enumerate(("ann", "ann", "bob")):
        _push(hub, seed, user=user)

    order = []
    for _ in range(6):
        job = worker.must_claim()
        order.append(job["ref"].partition("/")[0])
        worker.finish(job)

    assert {job["ref"] for job in running} == {"flood/tiny@v1"}
    # whoever has nothing running comes before the flood, which has two
    assert order == ["ann", "bob", "ann", "flood", "flood", "flood"]


def test_many_workers_at_once_take_each_job_once(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    for seed in range(8):
        _push(hub, seed)

    with ThreadPoolExecutor(8) as pool:
        jobs = list(pool.map(lambda _: worker.claim(), range(8)))

    taken = [job["id"] for job in jobs if job]
    taken += [job["id"] for job in iter(worker.claim, None)]  # one that lost every race asks again
    assert sorted(taken, key=int) == [str(number) for number in range(1, 9)]


def test_asking_for_an_evaluation_twice_is_asking_once(hub: Hub) -> None:
    hub.register_base()
    _push(hub)
    hub.worker()
    body, headers = {"ref": "demo/tiny@v1", "suite": "demo/topics"}, hub.headers()

    first, second = hub.post("/evaluations", body, headers), hub.post("/evaluations", body, headers)

    assert (first.status_code, second.status_code) == (200, 200)  # the suite's arrival had asked already
    assert first.json()["id"] == second.json()["id"]


def test_an_evaluation_can_be_asked_for_by_any_way_to_name_the_version(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    version = sqlite_hub.push(make_archive()).json()
    sqlite_hub.worker()

    for ref in ("demo/tiny", "demo/tiny@v1", f"demo/tiny@{version['commit']}", f"demo/tiny@{version['digest']}"):
        answer = sqlite_hub.post("/evaluations", {"ref": ref, "suite": "demo/topics"}, sqlite_hub.headers())
        assert answer.json()["ref"] == "demo/tiny@v1"


def test_an_adapter_with_other_labels_cannot_be_evaluated(hub: Hub) -> None:
    hub.register_base()
    hub.worker()
    hub.push(make_archive(labels=("x", "y")))

    answer = hub.post("/evaluations", {"ref": "demo/tiny@v1", "suite": "demo/topics"}, hub.headers())

    assert code_of(answer) == (422, "TASK_MISMATCH")
    problem = answer.json()
    assert "demo/tiny@v1 was trained for 2 labels (x, y), and demo/topics asks for 2 labels (a, b)" in problem["detail"]
    assert problem["facts"]["adapter_labels"] == ["x", "y"]
    assert problem["facts"]["labels"] == ["a", "b"]


def test_what_is_not_there_cannot_be_evaluated(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    _push(sqlite_hub)
    sqlite_hub.worker()
    headers = sqlite_hub.headers()

    def ask(ref: str, suite: str = "demo/topics") -> tuple[int, str]:
        return code_of(sqlite_hub.post("/evaluations", {"ref": ref, "suite": suite}, headers))

    assert ask("demo/tiny@v2") == (404, "VERSION_UNKNOWN")
    assert ask("demo/none") == (404, "ADAPTER_UNKNOWN")
    assert ask("demo/tiny", "demo/none") == (404, "SUITE_UNKNOWN")
    assert ask("not a ref") == (422, "REF_INVALID")
    assert code_of(sqlite_hub.get("/evaluations/99")) == (404, "EVALUATION_UNKNOWN")
    assert code_of(sqlite_hub.get("/evaluations/" + "9" * 5000)) == (404, "EVALUATION_UNKNOWN")


def test_a_new_definition_is_a_new_column_and_the_old_one_keeps_its_results(hub: Hub) -> None:
    hub.register_base()
    old = hub.worker(make_suite(split="one"))
    _push(hub, 1)
    job = old.must_claim()
    old.finish(job)
    _push(hub, 2)

    new = hub.worker(make_suite(split="two"), name="new")

    assert hub.get("/suites/demo/topics").json()["definition"]["split"] == "two"
    assert hub.get("/leaderboards/demo/topics").json()["rows"] == []
    assert old.claim() is None
    assert {new.must_claim()["ref"], new.must_claim()["ref"]} == {"demo/tiny@v1", "demo/tiny@v2"}
    assert _state(hub, job["id"]) == "done"
    superseded = hub.get("/adapters/demo/tiny/versions/v2").json()["evaluations"][0]
    assert (superseded["state"], "newer definition" in superseded["reason"]) == ("failed", True)


def test_registering_the_same_suite_again_changes_nothing(hub: Hub) -> None:
    hub.register_base()
    _push(hub)
    hub.worker()
    before = hub.contents

    hub.worker(name="again")

    assert hub.contents == before


def test_results_that_do_not_fit_the_suite_are_refused(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    _push(sqlite_hub)
    job = worker.must_claim()

    assert code_of(worker.finish(job, [1] * 7)) == (422, "RESULT_INVALID")
    assert code_of(worker.finish(job, [2] * 8)) == (422, "RESULT_INVALID")
    assert code_of(worker.finish(job, [[1, 1]] * 8)) == (422, "RESULT_INVALID")
    assert code_of(worker.finish(job, [[1, 1, 1]] * 8)) == (422, "RESULT_INVALID")
    assert code_of(worker.finish(job, [[1] * 65] * 8)) == (422, "BODY_INVALID")
    assert _state(sqlite_hub, job["id"]) == "running"
    assert worker.finish(job).status_code == 204


def test_scores_beside_the_one_that_ranks_are_those_the_suite_measures(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(make_suite(also=["matthews", "f1"]))
    _push(sqlite_hub)
    job = worker.must_claim()
    pairs = [[1, 1]] * 6 + [[0, 0], [0, 1]]

    for wrong in ({"vibes": pairs}, {"pearson": pairs}, {"f1": pairs[1:]}, {"f1": [1] * 8}):
        assert code_of(worker.finish(job, beside=wrong)) == (422, "RESULT_INVALID"), wrong
    assert worker.finish(job, beside={"f1": pairs}).status_code == 204

    done = sqlite_hub.get(f"/evaluations/{job['id']}").json()
    assert round(done["beside"]["f1"]["score"], 9) == round(12 / 13, 9)
    assert done["beside"]["f1"]["interval"][0] < 12 / 13
    assert done["beside"]["matthews"] is None
    (row,) = sqlite_hub.get("/leaderboards/demo/topics").json()["rows"]
    assert row["beside"] == done["beside"]


def test_suites_that_make_no_sense_are_refused(sqlite_hub: Hub) -> None:
    from hub.auth.tokens import TokenKind

    headers = sqlite_hub.headers(kind=TokenKind.WORKER)
    for wrong in (
        make_suite("no-family"),
        {**make_suite(), "metric": "vibes"},
        make_suite(items=0),
        make_suite(labels=("a", "a")),
        make_suite(number=2**60),
    ):
        body = {"name": "w", "suites": [wrong], **shown("w", headers["Authorization"])}
        answer = sqlite_hub.post("/worker/register", body, headers)
        assert answer.status_code == 422, wrong
    assert sqlite_hub.get("/suites").json()["items"] == []


def test_a_board_of_perplexity_has_the_lowest_first(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker({**make_suite(items=40), "metric": "perplexity"})
    for number, loss in enumerate((2.0, 1.0, 1.0 + 1e-6), 1):
        _push(hub, number)
        assert (
            worker.finish(worker.must_claim(), [[loss * (9 + item % 5), 10] for item in range(40)]).status_code == 204
        )

    rows = hub.get("/leaderboards/demo/topics").json()["rows"]

    assert [(row["rank"], round(row["score"], 1)) for row in rows] == [(1, 3.0), (2, 3.0), (3, 9.0)]
    assert [row["tied_with_best"] for row in rows] == [True, False, False]
    assert all(row["interval"][0] < row["score"] < row["interval"][1] for row in rows)


def test_scores_that_are_no_means_are_computed_and_compared_from_what_is_stored(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker({**make_suite(items=40), "metric": "matthews"})
    _push(hub, 1)
    _push(hub, 2)
    first, second = worker.must_claim(), worker.must_claim()
    worker.finish(first, [[item % 2, item % 2] for item in range(40)])
    worker.finish(second, [[item % 2, int(item < 20)] for item in range(40)])

    scores = [hub.get(f"/evaluations/{job['id']}").json()["score"] for job in (first, second)]
    comparison = hub.get(f"/evaluations/{first['id']}/comparison?against={second['id']}").json()

    assert scores == [1.0, 0.0]
    assert (comparison["metric"], comparison["delta"], comparison["method"]) == ("matthews", 1.0, "paired bootstrap")
    assert comparison["interval"][0] > 0.5
    assert comparison["p_value"] < 0.01


def test_two_versions_are_compared_item_by_item(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker(make_suite(items=40))
    _push(hub, 1)
    _push(hub, 2)
    first, second = worker.must_claim(), worker.must_claim()

    assert code_of(hub.get(f"/evaluations/{first['id']}/comparison?against={second['id']}")) == (
        409,
        "EVALUATION_NOT_DONE",
    )
    worker.finish(first, [1] * 30 + [0] * 10)
    worker.finish(second, [1] * 20 + [0] * 20)

    comparison = hub.get(f"/evaluations/{first['id']}/comparison?against={second['id']}").json()
    assert (comparison["score"], comparison["against_score"], comparison["delta"]) == (0.75, 0.5, 0.25)
    assert (comparison["only_better"], comparison["only_worse"]) == (10, 0)
    assert comparison["p_value"] < 0.01
    assert comparison["interval"][0] > 0


def test_evaluations_of_different_suites_are_not_compared(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker(make_suite("demo/topics"), make_suite("demo/tone"))
    _push(sqlite_hub)
    first, second = worker.must_claim(), worker.must_claim()
    worker.finish(first)
    worker.finish(second)

    answer = sqlite_hub.get(f"/evaluations/{first['id']}/comparison?against={second['id']}")

    assert code_of(answer) == (409, "SPEC_MISMATCH")


def test_a_board_ranks_by_score_and_marks_what_cannot_be_told_from_the_best(hub: Hub) -> None:
    base, other = make_base(), make_base(salt="other")
    hub.register_base(base)
    hub.register_base(other, "acme/other")
    worker = hub.worker(make_suite(items=40))
    hub.push(make_archive(seed=1), "good")
    hub.push(make_archive(seed=2), "close")
    hub.push(make_archive(seed=3, base=other), "bad", user="ann")
    scores = {"demo/good@v1": 30, "demo/close@v1": 29, "ann/bad@v1": 5}
    for _ in range(3):
        job = worker.must_claim()
        right = scores[job["ref"]]
        worker.finish(job, [1] * right + [0] * (40 - right))

    board = hub.get("/leaderboards/demo/topics").json()

    assert board["suite"]["name"] == "demo/topics"
    assert [(row["rank"], row["ref"], row["tied_with_best"]) for row in board["rows"]] == [
        (1, "demo/good@v1", True),
        (2, "demo/close@v1", True),
        (3, "ann/bad@v1", False),
    ]
    assert board["rows"][0]["score"] == 0.75
    assert board["rows"][0]["adapter_rank"] == 8
    assert [row["ref"] for row in hub.get("/leaderboards/demo/topics?base=acme/other").json()["rows"]] == ["ann/bad@v1"]
    by_fingerprint = hub.get(f"/leaderboards/demo/topics?base={base.value}").json()["rows"]
    assert [row["ref"] for row in by_fingerprint] == ["demo/good@v1", "demo/close@v1"]
    assert code_of(hub.get("/leaderboards/demo/none")) == (404, "SUITE_UNKNOWN")


def test_equal_scores_share_a_rank(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    worker = sqlite_hub.worker()
    for seed in range(4):
        _push(sqlite_hub, seed)
    for outcomes in ([1] * 8, [1] * 8, [0] * 8, [0] * 8):
        worker.finish(worker.must_claim(), outcomes)

    rows = sqlite_hub.get("/leaderboards/demo/topics").json()["rows"]

    assert [row["rank"] for row in rows] == [1, 1, 3, 3]


def test_only_a_worker_token_may_work_and_it_may_do_nothing_else(sqlite_hub: Hub) -> None:
    from hub.auth.tokens import TokenKind

    sqlite_hub.register_base()
    worker_headers = sqlite_hub.headers("demo", TokenKind.WORKER)

    registration = {"name": "w", "suites": [], **shown("w", worker_headers["Authorization"])}
    assert code_of(sqlite_hub.post("/worker/register", registration, sqlite_hub.headers())) == (
        403,
        "SCOPE_INSUFFICIENT",
    )
    assert code_of(sqlite_hub.post("/worker/register", registration, {})) == (401, "TOKEN_MISSING")
    assert code_of(sqlite_hub.push(make_archive(), headers=worker_headers)) == (403, "SCOPE_INSUFFICIENT")
    rows = make_base().to_rows()
    answer = sqlite_hub.post("/bases", {"name": "x", "revision": None, "tensors": rows}, worker_headers)
    assert code_of(answer) == (403, "SCOPE_INSUFFICIENT")


def test_a_worker_that_was_never_registered_gets_no_job(sqlite_hub: Hub) -> None:
    worker = sqlite_hub.worker()
    body = {"worker_id": "12345", "suites": []}

    assert code_of(sqlite_hub.post("/worker/claims", body, worker.headers)) == (404, "WORKER_UNKNOWN")
    mallory = sqlite_hub.worker(name="mallory")
    body = {"worker_id": worker.id, "suites": []}
    assert code_of(sqlite_hub.post("/worker/claims", body, mallory.headers)) == (404, "WORKER_UNKNOWN")


# -- What is going on, and ending it --------------------------------------------------------------


def _cancel(hub: Hub, evaluation_id: str, user: str = "demo") -> tuple[int, object]:
    answer = hub.post(f"/evaluations/{evaluation_id}/cancel", {}, hub.headers(user))
    return answer.status_code, answer.json().get("state") or answer.json()["code"]


def test_a_waiting_evaluation_is_cancelled_and_asked_for_again(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    ref = _push(hub)
    waiting = hub.get("/adapters/demo/tiny/versions/v1").json()["evaluations"][0]["id"]

    assert _cancel(hub, waiting) == (200, "failed")
    assert _cancel(hub, waiting) == (200, "failed")

    ended = hub.get(f"/evaluations/{waiting}").json()
    assert ended["reason"].startswith("CANCELLED: demo cancelled it.")
    assert worker.claim() is None
    events = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"]
    assert [event["subject"] for event in events if event["action"] == "evaluation.cancelled"] == [ref]
    again = hub.post("/evaluations", {"ref": ref, "suite": "demo/topics"}, hub.headers())
    assert (again.status_code, again.json()["state"], again.json()["reason"]) == (202, "waiting", None)
    assert worker.finish(worker.must_claim()).status_code == 204


def test_a_running_evaluation_that_is_cancelled_is_its_workers_no_longer(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    ref = _push(hub)
    job = worker.must_claim()

    assert _cancel(hub, str(job["id"])) == (200, "failed")

    assert code_of(worker.heartbeat(job)) == (409, "LEASE_EXPIRED")
    assert code_of(worker.finish(job)) == (409, "LEASE_EXPIRED")
    hub.post("/evaluations", {"ref": ref, "suite": "demo/topics"}, hub.headers())
    assert code_of(worker.finish(job)) == (409, "LEASE_EXPIRED")
    assert _state(hub, str(job["id"])) == "waiting"


def test_only_who_publishes_there_cancels_and_nobody_what_is_done(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    _push(hub)
    job = worker.must_claim()

    assert _cancel(hub, str(job["id"]), user="eve") == (403, "FORBIDDEN")
    assert _cancel(hub, "999") == (404, "EVALUATION_UNKNOWN")
    worker.finish(job)
    assert _cancel(hub, str(job["id"])) == (409, "EVALUATION_DONE")
    assert _state(hub, str(job["id"])) == "done"


def test_how_long_it_may_take_is_told_from_what_its_suite_has_taken(sqlite_hub: Hub) -> None:
    hub = sqlite_hub
    hub.register_base()
    worker = hub.worker()
    for seed in range(4):
        _push(hub, seed)

    def estimates() -> list[float | None]:
        views = (hub.get(f"/adapters/demo/tiny/versions/v{n}").json()["evaluations"][0] for n in (1, 2, 3, 4))
        return [view["estimate_seconds"] for view in views]

    assert estimates() == [None] * 4
    worker.finish(worker.must_claim())
    took = hub.get("/adapters/demo/tiny/versions/v1").json()["evaluations"][0]["seconds"]
    assert took > 0
    assert estimates() == [None, took, 2 * took, 3 * took]
    hub.worker(name="another")
    assert estimates() == [None, took, took, 2 * took]
    with hub.database.writing() as session:
        session.execute(update(Evaluation).where(Evaluation.seconds.is_not(None)).values(seconds=600.0))
    running = hub.get(f"/evaluations/{worker.must_claim()['id']}").json()
    assert running["worker_seen_at"] is not None
    assert 300 < running["estimate_seconds"] < 600


@pytest.mark.parametrize(
    ("began_ago", "lease_left", "says"),
    [
        (timedelta(minutes=11), timedelta(seconds=50), "It takes longer than its suite has lately taken."),
        (timedelta(minutes=5), timedelta(seconds=25), "Nothing was heard of its worker lately"),
    ],
    ids=["over", "silent"],
)
def test_where_nobody_knows_how_long_a_job_takes_it_is_said_why(
    hub: Hub, began_ago: timedelta, lease_left: timedelta, says: str
) -> None:
    hub.register_base()
    worker = hub.worker()
    for seed in range(2):
        _push(hub, seed)
    worker.finish(worker.must_claim())
    job = worker.must_claim()
    with hub.database.writing() as session:
        session.execute(update(Evaluation).where(Evaluation.seconds.is_not(None)).values(seconds=600.0))
        stored, at = session.get_one(Evaluation, int(job["id"])), db.now(session)
        stored.started_at, stored.lease_expires_at = at - began_ago, at + lease_left

    seen = hub.get(f"/evaluations/{job['id']}").json()

    assert (seen["state"], seen["estimate_seconds"]) == ("running", None)
    assert says in seen["reason"]
    page = hub.client.get("/demo/tiny").text
    assert says in page
    assert "to go" not in page


def test_a_base_without_room_waits_for_a_worker_with_more_memory(hub: Hub) -> None:
    hub.register_base()
    parameters = hub.get("/bases").json()["items"][0]["parameters"]
    small = hub.worker(name="small", memory_bytes=4 * parameters - 1)
    _push(hub)

    assert small.claim() is None
    (waiting,) = hub.get("/adapters/demo/tiny/versions/v1").json()["evaluations"]
    sizes = f"in float32 it takes {4 * parameters:,} bytes, and the largest of them has {4 * parameters - 1:,} bytes"
    assert sizes in waiting["reason"]
    large = hub.worker(name="large", memory_bytes=4 * parameters)
    assert hub.get(f"/evaluations/{waiting['id']}").json()["reason"] is None
    assert large.must_claim()["id"] == waiting["id"]
