"""Grading that never ends, crashes or is cancelled: the worker goes on, and nobody is asked to wait for it."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from hub.worker import noise
from hub.worker.grading import Grader
from hub.worker.runner import ChildDied
from hub.worker.suite import Results, Suite
from tests.worker.lab import NAME, Lab, animals, is_over
from tests.worker.suite_files import write_suite
from vera.errors import VeraError

pytestmark = pytest.mark.skipif(not Grader.can_stop, reason="needs Linux, where processes are copied")


class Odd(Suite):
    """A suite whose grading does something of its own first, in the process that grades."""

    is_graded_apart = True
    does: Callable[[], object]

    def results(self, reply: Mapping[str, Any]) -> Results:
        self.does()
        return super().results(reply)


def odd(suite: Suite, does: Callable[[], object]) -> Odd:
    found = Odd(**{each.name: getattr(suite, each.name) for each in fields(Suite)})
    object.__setattr__(found, "does", does)
    return found


def for_ever() -> None:
    """As an expression of a task's own on a text that nobody thought of. It lets no other thread run meanwhile."""
    re.match(r"(a+)+$", "a" * 64 + "b")


REPLY = {"outputs": ["cat", "cat", "cat", "dog"], "environment": {}}


def test_the_process_that_grades_gives_what_the_worker_would(tmp_path: Path) -> None:
    suite = animals(tmp_path)

    assert Grader().graded(odd(suite, os.getpid), REPLY) == noise.graded(suite, REPLY)


def test_what_is_refused_there_is_refused_here(tmp_path: Path) -> None:
    with pytest.raises(VeraError, match="none of its labels") as refused:
        Grader().graded(odd(animals(tmp_path), os.getpid), {**REPLY, "outputs": ["cow"] * 4})

    assert refused.value.code == "SUITE_INVALID"


def test_a_crash_is_told_from_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(ChildDied, match="ended without a result"):
        Grader().graded(odd(animals(tmp_path), lambda: os._exit(9)), REPLY)


def test_what_is_graded_for_ever_is_ended_and_leaves_no_process(tmp_path: Path) -> None:
    grader = Grader()
    began, says = os.pipe()

    def stuck() -> None:
        os.write(says, f"{os.getpid()}\n".encode())
        for_ever()

    def stop() -> None:
        pids.append(int(os.read(began, 16)))
        grader.stop()

    pids: list[int] = []
    stopping = threading.Thread(target=stop)
    stopping.start()
    with pytest.raises(ChildDied):
        grader.graded(odd(animals(tmp_path), stuck), REPLY)
    stopping.join()
    os.close(began)
    os.close(says)

    assert not Path(f"/proc/{pids[0]}").exists()


@pytest.mark.parametrize(
    ("metric", "is_apart"), [("bleu", True), ("ifeval", True), ("perplexity", False), ("accuracy", False)]
)
def test_what_programs_score_is_graded_apart(tmp_path: Path, metric: str, *, is_apart: bool) -> None:
    label = {"ifeval": "kinds,arguments", "accuracy": "choices,label"}.get(metric, "completion")
    rows = {
        "ifeval": 'prompt,kinds,arguments\nGo,"[""punctuation:no_comma""]","[{}]"\n',
        "accuracy": 'prompt,choices,label\nGo,"[""a"", ""b""]",0\n',
    }.get(metric, "prompt,completion\nGo,the end\n")
    suite = write_suite(tmp_path, rows, task="text-generation", metric=metric, text="prompt", label=label)

    assert suite.is_graded_apart is is_apart


def test_the_limit_reaches_what_grades_and_the_worker_goes_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    now, graded, usual = [0.0], lab.worker.grader.graded, lab.worker.suites[NAME]
    monkeypatch.setattr(lab.worker, "clock", lambda: now[0])

    def late(suite: Suite, reply: Mapping[str, Any]) -> Results:
        now[0] += 4000.0
        return graded(suite, reply)

    monkeypatch.setattr(lab.worker.grader, "graded", late)
    lab.worker.suites = {NAME: odd(usual, for_ever)}
    evaluation_id = lab.ask()
    lab.start_worker()

    failed = lab.wait(evaluation_id, is_over)
    lab.worker.suites = {NAME: usual}
    after = lab.wait(lab.ask("after", 1), is_over)

    assert (failed.state, failed.attempts, after.state) == ("failed", 3, "done")
    assert failed.reason == "WORKER_CRASHED: Grading got no further for more than 3,600 seconds, and was ended."


def test_who_cancels_ends_what_grades(lab: Lab) -> None:
    usual = lab.worker.suites[NAME]
    began, says = os.pipe()

    def stuck() -> None:
        os.write(says, b"!")
        for_ever()

    lab.worker.suites = {NAME: odd(usual, stuck)}
    evaluation_id = lab.ask()
    lab.start_worker()
    os.read(began, 1)

    lab.user.cancel_evaluation(evaluation_id)
    lab.worker.suites = {NAME: usual}
    after = lab.wait(lab.ask("after", 1), is_over)
    os.close(began)
    os.close(says)

    assert (lab.user.get_evaluation(evaluation_id).state, after.state) == ("failed", "done")
