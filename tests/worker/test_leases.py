"""The leases of the jobs in hand: one that is lost is not asked for again, and what is answered in vain is ended."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hub.worker.leases import Leases
from hub.worker.runner import ChildDied
from sdk.errors import HubError, LeaseLost, Unavailable
from sdk.models.jobs import Job, JobBase

WITHIN_S = 30  # until a thread has its turn; nothing is measured


def job(job_id: str) -> Job:
    base = JobBase("base", "vbf1:00", None)
    return Job(job_id, 1, "demo/tiny@v1", "sha256:aa", "sha256:bb", "cc", "demo/topics", {}, "sha256:dd", base, 60)


class Keeping:
    """Leases that are asked for without a pause, and who stops what. `pacer` is a job like the others: it comes last in
    each round, so that its beats count the rounds."""

    def __init__(self, *jobs: Job) -> None:
        self.pacer = job("pacer")
        self.beats, self.refused, self.now = Counter[str](), dict[str, HubError](), 0.0
        self.stopped, self._rounds = threading.Event(), threading.Semaphore(0)
        self.leases = Leases([*jobs, self.pacer], self._beat, self.stopped.set, every_s=0, clock=lambda: self.now)

    def _beat(self, each: Job) -> None:
        self.beats[each.id] += 1
        if each is self.pacer:
            self._rounds.release()
        if (refusal := self.refused.get(each.id)) is not None:
            raise refusal

    def wait_for_rounds(self, number: int = 3) -> None:
        """From now on, so many, and the one that goes on now."""
        while self._rounds.acquire(blocking=False):
            pass
        for _ in range(number + 1):
            assert self._rounds.acquire(timeout=WITHIN_S)


@contextmanager
def keeping(*jobs: Job) -> Iterator[Keeping]:
    kept = Keeping(*jobs)
    with kept.leases.kept():
        yield kept


def test_a_lease_that_is_lost_is_not_asked_for_again() -> None:
    gone = job("gone")
    with keeping(gone) as kept:
        kept.refused["gone"] = LeaseLost("another worker has it")
        kept.wait_for_rounds()
        beats = kept.beats["gone"]
        kept.wait_for_rounds()

    assert (kept.leases.is_lost(gone), kept.leases.is_lost(kept.pacer)) == (True, False)
    assert kept.beats["gone"] == beats


def test_a_hub_that_is_away_for_a_moment_takes_no_lease() -> None:
    mine = job("mine")
    with keeping(mine) as kept, kept.leases.limited([mine], 10):
        kept.refused["mine"] = Unavailable("restarting")
        kept.wait_for_rounds()

    assert not kept.leases.is_lost(mine)
    assert not kept.stopped.is_set()


def test_what_is_answered_is_ended_when_the_last_lease_of_it_is_lost() -> None:
    first, second = job("first"), job("second")
    with keeping(first, second) as kept, kept.leases.limited([first, second], 10):
        kept.refused["first"] = LeaseLost("cancelled")
        kept.wait_for_rounds()
        assert not kept.stopped.is_set()
        kept.refused["second"] = LeaseLost("cancelled")
        assert kept.stopped.wait(WITHIN_S)


def test_what_takes_too_long_is_ended_and_nothing_after_it() -> None:
    mine = job("mine")
    with keeping(mine) as kept:
        with kept.leases.limited([mine], 10):
            kept.now = 10.0
            kept.wait_for_rounds()
            assert not kept.stopped.is_set()
            kept.now = 10.5
            assert kept.stopped.wait(WITHIN_S)
        kept.stopped.clear()
        kept.wait_for_rounds()

    assert not kept.stopped.is_set()
    assert not kept.leases.is_lost(mine)


def test_what_gets_on_has_its_whole_time_again() -> None:
    mine = job("mine")
    with keeping(mine) as kept, kept.leases.limited([mine], 10):
        kept.now = 9.0
        kept.leases.note_progress([1])
        kept.now = 18.0
        kept.wait_for_rounds()
        assert not kept.stopped.is_set()
        kept.leases.note_progress([1])
        kept.now = 19.5
        assert kept.stopped.wait(WITHIN_S)


def test_what_took_too_long_says_so_and_what_crashed_does_not() -> None:
    mine, ended = job("mine"), threading.Event()

    def grade(kept: Keeping, *, until: float) -> None:
        with kept.leases.limited([mine], 10, ended.set, what="Grading"):
            kept.now = until
            assert until < 10 or ended.wait(WITHIN_S)
            raise ChildDied("it crashed")

    with keeping(mine) as kept:
        with pytest.raises(ChildDied, match="it crashed"):
            grade(kept, until=9.5)
        with pytest.raises(ChildDied, match=r"Grading got no further for more than 10 seconds, and was ended\."):
            grade(kept, until=20.0)

    assert not kept.stopped.is_set()


def test_a_job_that_is_given_up_keeps_no_lease() -> None:
    mine = job("mine")
    with keeping(mine) as kept:
        kept.leases.give_up(mine)
        kept.wait_for_rounds()
        beats = kept.beats["mine"]
        kept.wait_for_rounds()

    assert kept.leases.is_lost(mine)
    assert kept.beats["mine"] == beats


def test_what_is_handed_in_is_heard_of_no_more() -> None:
    mine = job("mine")
    with keeping(mine) as kept:
        kept.leases.let_go(mine)
        kept.wait_for_rounds()
        beats = kept.beats["mine"]
        kept.wait_for_rounds()

    assert kept.beats["mine"] == beats
