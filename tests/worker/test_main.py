"""The worker's loop against the real hub in this process, with its real child: each job ends once, whatever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import undefer

from hub.db.models.evaluating import Evaluation as StoredEvaluation
from hub.domain.evaluations import unpack
from hub.worker import local
from hub.worker.runner import ChildDied, Tell
from sdk.models.evaluations import Comparison
from sdk.pushing import push_archive
from tests.signing import signed
from tests.tiny_adapters import make_tiny, with_stored_pair
from tests.worker.lab import LABELS, NAME, TEXTS, Lab, is_over
from tests.worker.suite_files import write_suite
from vera import archive
from vera.ref import AdapterRef


@pytest.fixture
def lab(tmp_path: Path, tiny_folder: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path, tiny_folder)
    with lab.http:
        # The suite is known before anything is pushed.
        lab.worker.hub.register_worker(
            "w", [lab.worker.suites[NAME].declaration()], public_key=str(lab.worker.key.public)
        )
        yield lab
        lab.stop_worker()


def test_what_is_pushed_is_scored(lab: Lab) -> None:
    evaluation_id = lab.ask()
    lab.start_worker()

    done = lab.wait(evaluation_id, is_over)

    assert (done.state, done.items, done.attempts) == ("done", 4, 1)
    assert done.environment is not None
    assert done.environment["dtype"] == "float32"
    assert done.environment["batch_size"] == 2
    assert done.environment["noise"] == {"items": 4, "batch_size": 1, "changed": 0, "score": 0.0}
    assert done.score in (0, 0.25, 0.5, 0.75, 1)


def test_a_suite_whose_metric_is_no_mean_is_scored_from_what_each_item_was_answered(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    rows = "".join(f"{text},{label}\n" for text in TEXTS for label in LABELS)
    suite = write_suite(tmp_path / "more", f"text,label\n{rows}", name="tests/f1", metric="f1", positive="cat")
    lab.worker.hub.register_worker("w", [suite.declaration()], public_key=str(lab.worker.key.public))
    pushed = push_archive(lab.user, make_tiny(lab.base, head=True), AdapterRef("demo", "tiny"))
    asked = lab.user.request_evaluation(pushed.version.ref, "tests/f1").id
    lab.worker.suites = {suite.name: suite}
    lab.start_worker()

    done = lab.wait(asked, is_over)

    assert done.state == "done", done.reason
    # Each text stands there as a cat and as a dog, so of n texts that are called a cat n are right.
    assert done.score in [0.0, *(pytest.approx(2 * n / (4 + 2 * n)) for n in (1, 2, 3, 4))]
    assert done.interval is not None
    assert done.interval[0] <= done.score <= done.interval[1]


def test_a_folder_evaluated_without_a_hub_earns_for_each_item_what_the_hub_has_stored(lab: Lab, tmp_path: Path) -> None:
    ids, folders = [lab.ask(f"tiny{seed}", seed) for seed in (1, 2)], [tmp_path / f"tiny{seed}" for seed in (1, 2)]
    for seed, folder in enumerate(folders, 1):
        archive.write_folder(make_tiny(lab.base, seed=seed, head=True), folder)
    lab.start_worker()
    done = [lab.wait(evaluation_id, is_over) for evaluation_id in ids]
    suite, config = lab.worker.suites[NAME], lab.worker.hub.config

    here = local.evaluate(suite, folders, base=None, config=config)

    assert [(each["score"], tuple(each["interval"])) for each in here["evaluations"]] == [
        (each.score, each.interval) for each in done
    ]
    assert Comparison.from_json(here["comparison"]) == lab.user.compare_evaluations(*ids)
    with lab.hub.database.reading() as session:
        rows = {
            str(row.id): row
            for row in session.scalars(select(StoredEvaluation).options(undefer(StoredEvaluation.outcomes)))
        }
        stored = [unpack(rows[each].outcomes) for each in ids]
    assert [each.results.outcomes for each in local.answers(suite, folders, base=None, config=config)] == stored


def test_an_adapter_whose_pair_is_stored_is_scored_like_the_same_one_with_a_drawn_pair(lab: Lab) -> None:
    drawn = make_tiny(lab.base, head=True)
    ids = []
    for name, adapter in (("drawn", drawn), ("stored", with_stored_pair(drawn))):
        pushed = push_archive(lab.user, adapter, AdapterRef("demo", name))
        ids.append(lab.user.request_evaluation(pushed.version.ref, NAME).id)
    lab.start_worker()

    first, second = (lab.wait(evaluation_id, is_over) for evaluation_id in ids)

    assert (first.state, second.state) == ("done", "done"), second.reason
    assert first.score == second.score


def test_adapters_with_a_head_of_transformers_and_without_are_scored_one_after_the_other(lab: Lab) -> None:
    ids = []
    for name, pooling in (("own", None), ("pooled", "mean"), ("again", None)):
        adapter = make_tiny(lab.base, seed=len(ids), head=True, pooling=pooling)
        pushed = push_archive(lab.user, adapter, AdapterRef("demo", name))
        ids.append(lab.user.request_evaluation(pushed.version.ref, NAME).id)
    lab.start_worker()

    done = [lab.wait(evaluation_id, is_over) for evaluation_id in ids]

    assert [each.state for each in done] == ["done"] * 3, [each.reason for each in done]


def test_a_killed_child_is_tried_again_and_the_job_ends_once(lab: Lab) -> None:
    evaluation_id = lab.ask()
    lab.start_worker()
    os.kill(lab.wait_for_child(), signal.SIGKILL)

    done = lab.wait(evaluation_id, is_over)

    assert (done.state, done.attempts) == ("done", 2)


def test_how_far_it_is_is_seen_at_the_hub_while_it_runs(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [lab.ask("one"), lab.ask("two", 1)]
    answer = lab.worker.runner.run

    def seen_after_each(request: dict[str, Any], tell: Tell) -> Any:
        def told(done: Sequence[int], of: int) -> None:
            tell(done, of)
            seen.append([lab.wait(number, lambda each: each.items_done == done[0]).items_done for number in ids])

        return answer(request, told)

    seen: list[list[int | None]] = []
    monkeypatch.setattr(lab.worker.runner, "run", seen_after_each)
    lab.start_worker()

    done = [lab.wait(number, is_over) for number in ids]

    assert [each.state for each in done] == ["done"] * 2, [each.reason for each in done]
    assert seen[0] == [2, 2]  # of four, one batch of both
    assert lab.worker._done == {}


def test_a_lost_lease_stops_the_child_and_a_late_result_changes_nothing(lab: Lab) -> None:
    evaluation_id = lab.ask()
    other = lab.worker.hub.register_worker(
        "other", [lab.worker.suites[NAME].declaration()], public_key=str(lab.worker.key.public)
    )
    lab.start_worker()
    child = lab.wait_for_child()
    job = None
    while job is None:  # a heartbeat may come between the two lines
        lab.hub.let_leases_run_out()
        job = lab.worker.hub.claim_job(other, [NAME])
    result = {"outcomes": [1, 1, 1, 1], "outputs": ["cat"] * 4, "environment": {}, "seconds": 1.0}
    lab.worker.hub.submit_result(job, **result, envelope=signed(asdict(job), **result, key=lab.worker.key))

    lab.stop_worker()

    done = lab.user.get_evaluation(evaluation_id)
    assert (done.state, done.score, done.attempts, done.worker) == ("done", 1.0, 2, "other")
    assert not Path(f"/proc/{child}").exists()


def test_who_cancels_stops_the_child_and_who_asks_again_gets_a_score(lab: Lab) -> None:
    evaluation_id = lab.ask()
    lab.start_worker()
    child = lab.wait_for_child()

    cancelled = lab.user.cancel_evaluation(evaluation_id)

    assert (cancelled.state, cancelled.score) == ("failed", None)
    ends_at = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < ends_at:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
    assert lab.user.get_evaluation(evaluation_id) == cancelled
    lab.user.request_evaluation(cancelled.ref, NAME)
    assert lab.wait(evaluation_id, is_over).state == "done"


def test_a_job_that_goes_on_for_ever_is_ended(lab: Lab) -> None:
    lab.worker.job_limit_s = 0.0
    evaluation_id = lab.ask()
    lab.start_worker()

    failed = lab.wait(evaluation_id, is_over)

    assert (failed.state, failed.attempts) == ("failed", 3)
    assert failed.reason is not None


def test_a_stopping_worker_finishes_the_job_in_hand(lab: Lab) -> None:
    evaluation_id = lab.ask()
    lab.start_worker()
    lab.wait_for_child()

    lab.stop_worker()

    assert lab.user.get_evaluation(evaluation_id).state == "done"


def test_a_base_this_worker_does_not_have_is_not_claimed(lab: Lab) -> None:
    (lab.worker.hub.config.folder / "bases.json").unlink()
    evaluation_id = lab.ask()
    lab.start_worker()

    waiting = lab.wait(evaluation_id, lambda e: e.reason is not None)

    assert waiting.state == "waiting"
    assert "base" in str(waiting.reason)


def test_what_waits_together_is_answered_together(lab: Lab) -> None:
    ids = [lab.ask(f"tiny-{word}", seed) for seed, word in enumerate(("one", "two", "three"))]
    lab.start_worker()

    done = [lab.wait(evaluation_id, is_over) for evaluation_id in ids]

    assert [each.state for each in done] == ["done"] * 3, [each.reason for each in done]
    assert [each.attempts for each in done] == [1] * 3
    assert {(each.environment or {})["adapters_in_batch"] for each in done} == {3}


def test_together_each_scores_what_it_scores_alone(lab: Lab) -> None:
    lab.worker.most_together = 1
    alone = [lab.ask(f"alone-{word}", seed) for seed, word in enumerate(("one", "two", "three"))]
    lab.start_worker()
    scores = [lab.wait(evaluation_id, is_over).score for evaluation_id in alone]
    lab.worker.most_together = 16
    together = [lab.ask(f"again-{word}", seed) for seed, word in enumerate(("one", "two", "three"))]

    assert [lab.wait(evaluation_id, is_over).score for evaluation_id in together] == scores


def test_of_several_the_lost_one_is_left_to_others_and_the_rest_are_handed_in(lab: Lab) -> None:
    first, second = lab.ask("first"), lab.ask("second", 1)
    worker_id = lab.worker.hub.register_worker(
        "w", [lab.worker.suites[NAME].declaration()], public_key=str(lab.worker.key.public)
    )
    jobs = [job for _ in range(2) if (job := lab.worker.hub.claim_job(worker_id, [NAME])) is not None]
    lab.hub.let_leases_run_out()
    other = lab.worker.hub.register_worker(
        "other", [lab.worker.suites[NAME].declaration()], public_key=str(lab.worker.key.public)
    )
    taken = lab.worker.hub.claim_job(other, [NAME])
    assert taken is not None
    kept = next(job for job in jobs if job.id != taken.id)
    again = lab.worker.hub.claim_job(worker_id, [NAME])
    assert again is not None
    assert again.id == kept.id
    gone = next(job for job in jobs if job.id == taken.id)

    try:
        lab.worker._work([gone, again])
    finally:
        lab.worker.runner.stop()

    states = {each: lab.user.get_evaluation(each).state for each in (first, second)}
    assert states == {taken.id: "running", kept.id: "done"}


def test_a_group_that_kills_the_child_is_tried_again_one_by_one(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = lab.worker.runner.run

    def deadly_together(request: dict[str, Any], tell: Tell) -> Any:
        if len(request["adapters"]) > 1:
            raise ChildDied("it took all memory")
        return answer(request, tell)

    monkeypatch.setattr(lab.worker.runner, "run", deadly_together)
    ids = [lab.ask("first"), lab.ask("second", 1)]
    lab.start_worker()

    done = [lab.wait(evaluation_id, is_over) for evaluation_id in ids]

    assert [(each.state, each.attempts) for each in done] == [("done", 1)] * 2
