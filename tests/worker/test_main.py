"""The worker's loop against the real hub in this process, with its real child: each job ends once, whatever dies."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import undefer

from hub.db.models.evaluating import Evaluation as StoredEvaluation
from hub.domain.evaluations import unpack
from hub.worker import local, noise
from hub.worker.errors import JudgeFailed, NotComputed
from hub.worker.runner import ChildDied, Engine, Reply, Tell, nobody
from hub.worker.suite import Results, Suite
from sdk.models.evaluations import Comparison
from sdk.models.jobs import Job
from sdk.pushing import push_archive
from tests.signing import signed
from tests.tiny_adapters import make_tiny, with_stored_pair
from tests.worker.lab import LABELS, NAME, TEXTS, Lab, is_over
from tests.worker.suite_files import write_suite
from vera import archive
from vera.errors import VeraError
from vera.ref import AdapterRef


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
    lab.worker.hub.register_worker("w", [suite.declaration()], key=lab.worker.key)
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
    other = lab.worker.hub.register_worker("other", [lab.worker.suites[NAME].declaration()], key=lab.worker.key)
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


class Slow:
    """An engine that answers as another one, so late by a clock of its own, and not before it was beaten for three times; in
    several steps, after each of which it tells how far it is."""

    lacking = ()

    def __init__(self, engine: Engine, takes_s: Callable[[int], float]) -> None:
        self.now, self.asked, self.steps, self._beats = 0.0, list[int](), 1, 0
        self._engine, self._takes_s, self._stopped = engine, takes_s, threading.Event()

    def run(self, request: dict[str, Any], tell: Tell = nobody) -> Sequence[Reply]:
        self._stopped.clear()
        self.asked.append(len(request["adapters"]))
        for step in range(self.steps):
            if step:
                tell([step] * len(request["adapters"]), self.steps)
            self.now += self._takes_s(len(request["adapters"]))
            self._beats = 0
            while self._beats < 3:
                if self._stopped.wait(0.01):
                    raise ChildDied("it was stopped")
        return self._engine.run(request)

    def stop(self) -> None:
        self._stopped.set()
        self._engine.stop()

    def beaten(self, heartbeat: Callable[..., None]) -> Callable[..., None]:
        def beat(job: Job, **progress: Any) -> None:
            heartbeat(job, **progress)
            self._beats += 1

        return beat


@pytest.fixture
def slow(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Slow:
    """Takes nearly as long for each adapter as it may; of several, a group that is stuck is one beyond that."""
    slow = Slow(lab.worker.runner, lambda adapters: 3000.0 * adapters)
    lab.worker.runner, lab.worker.clock = slow, lambda: slow.now
    monkeypatch.setattr(lab.worker.hub, "heartbeat", slow.beaten(lab.worker.hub.heartbeat))
    return slow


def test_the_limit_is_for_each_adapter_of_a_group(lab: Lab, slow: Slow) -> None:
    ids = [lab.ask(f"tiny-{word}", seed) for seed, word in enumerate(("one", "two", "three"))]
    lab.start_worker()

    done = [lab.wait(evaluation_id, is_over) for evaluation_id in ids]

    assert [(each.state, each.attempts) for each in done] == [("done", 1)] * 3
    assert slow.asked == [3]


def test_what_gets_on_is_not_stuck_however_slow_it_is(lab: Lab, slow: Slow) -> None:
    slow.steps = 4
    evaluation_id = lab.ask()
    lab.start_worker()

    done = lab.wait(evaluation_id, is_over)

    assert (done.state, done.attempts, slow.now) == ("done", 1, 12000.0)


def test_those_of_a_group_that_is_stuck_have_their_time_alone(lab: Lab, slow: Slow) -> None:
    slow._takes_s = lambda adapters: 8000.0 if adapters > 1 else 3000.0
    ids = [lab.ask("first"), lab.ask("second", 1)]
    lab.start_worker()

    done = [lab.wait(evaluation_id, is_over) for evaluation_id in ids]

    assert [(each.state, each.attempts) for each in done] == [("done", 1)] * 2
    assert slow.asked == [2, 1, 1]


def test_a_lease_is_kept_until_the_result_is_handed_in(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit too, which is for what the adapter takes, and not for a judge or a hub that is slow."""
    beaten, now = threading.Event(), [0.0]
    monkeypatch.setattr(lab.worker, "clock", lambda: now[0])
    heartbeat, hub = lab.worker.hub.heartbeat, lab.worker.hub
    monkeypatch.setattr(hub, "heartbeat", lambda job, **progress: (heartbeat(job, **progress), beaten.set()))
    waits: list[bool] = []

    def slowly(what: Callable[..., Any]) -> Callable[..., Any]:
        def late(*args: Any, **named: Any) -> Any:
            now[0] += 4000.0
            for _ in range(2):  # the first one may have begun before
                beaten.clear()
                waits.append(beaten.wait(30))
            return what(*args, **named)

        return late

    monkeypatch.setattr(noise, "graded", slowly(noise.graded))
    monkeypatch.setattr(hub, "submit_result", slowly(hub.submit_result))
    evaluation_id = lab.ask()
    lab.start_worker()

    done = lab.wait(evaluation_id, is_over)

    assert (done.state, done.attempts, waits) == ("done", 1, [True] * 4)


def answering(lab: Lab, monkeypatch: pytest.MonkeyPatch, *outputs: str) -> None:
    """What the child answers to every item of the adapters of a request, in place of what they do."""
    environment = {"adapters_in_batch": 1, "batch_size": 2}
    replies = [{"outputs": [output] * 4, "environment": environment} for output in outputs]
    monkeypatch.setattr(lab.worker.runner, "run", lambda *_: [dict(each) for each in replies])


def test_an_answer_that_has_no_score_is_refused_and_the_others_are_handed_in(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "more").mkdir()
    rows = "".join(f"{text},the end\n" for text in TEXTS)
    stated = {"name": "tests/ends", "task": "text-generation", "metric": "perplexity"}
    suite = write_suite(tmp_path / "more", f"prompt,completion\n{rows}", **stated)
    lab.worker.hub.register_worker("w", [suite.declaration()], key=lab.worker.key)
    lab.worker.suites = {suite.name: suite}
    answering(lab, monkeypatch, "-1.0 2", "1.0 2")
    ids = []
    for seed in range(2):
        pushed = push_archive(lab.user, make_tiny(lab.base, seed=seed), AdapterRef("demo", f"tiny-{seed}"))
        ids.append(lab.user.request_evaluation(pushed.version.ref, suite.name).id)
    lab.start_worker()

    first, second = (lab.wait(each, is_over) for each in ids)

    assert (first.state, second.state) == ("failed", "done"), second.reason
    assert "has no perplexity: A likelihood is 0 nats or more" in str(first.reason)


def test_what_cannot_be_signed_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(lab, monkeypatch, "cat")
    graded = noise.graded
    monkeypatch.setattr(noise, "graded", lambda suite, reply: replace(graded(suite, reply), outputs=["\ud800"] * 4))
    evaluation_id = lab.ask()
    lab.start_worker()

    failed = lab.wait(evaluation_id, is_over)

    assert (failed.state, failed.attempts) == ("failed", 1)
    assert "cannot be signed" in str(failed.reason)


@pytest.mark.parametrize("error", [JudgeFailed("it is busy"), NotComputed("there is no Java")])
def test_what_is_the_machines_doing_is_tried_again(lab: Lab, monkeypatch: pytest.MonkeyPatch, error: VeraError) -> None:
    answering(lab, monkeypatch, "cat")
    graded, errors = noise.graded, [error]

    def once(suite: Suite, reply: dict[str, Any]) -> Results:
        if errors:
            raise errors.pop()
        return graded(suite, reply)

    monkeypatch.setattr(noise, "graded", once)
    evaluation_id = lab.ask()
    lab.start_worker()

    done = lab.wait(evaluation_id, is_over)

    assert (done.state, done.attempts) == ("done", 2)


def test_a_disk_that_is_full_gives_the_job_back(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, errors = tempfile.TemporaryDirectory, [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))]
    report, reported = lab.worker.hub.report_failure, []

    def full_once(**kwargs: Any) -> tempfile.TemporaryDirectory[str]:
        if errors:
            raise errors.pop()
        return folder(**kwargs)

    def noted(job: Job, **kwargs: Any) -> None:
        reported.append((kwargs["code"], kwargs["detail"], kwargs["may_retry"]))
        report(job, **kwargs)

    monkeypatch.setattr("hub.worker.main.tempfile.TemporaryDirectory", full_once)
    monkeypatch.setattr(lab.worker.hub, "report_failure", noted)
    evaluation_id = lab.ask()
    lab.start_worker()

    done = lab.wait(evaluation_id, is_over)

    assert (done.state, done.attempts) == ("done", 2)
    [(code, detail, may_retry)] = reported
    assert (code, may_retry) == ("WORKER_DISK", True)
    assert "No space left on device" in detail


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
    worker_id = lab.worker.hub.register_worker("w", [lab.worker.suites[NAME].declaration()], key=lab.worker.key)
    jobs = [job for _ in range(2) if (job := lab.worker.hub.claim_job(worker_id, [NAME])) is not None]
    lab.hub.let_leases_run_out()
    other = lab.worker.hub.register_worker("other", [lab.worker.suites[NAME].declaration()], key=lab.worker.key)
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
