"""How far each adapter of a request is: counted by rows, told sparingly, and put together where a fleet divides them."""

from __future__ import annotations

from collections.abc import Sequence

from hub.worker.fleet.engine import told_together
from hub.worker.progress import Progress, now_and_then
from vera.nn.inputs import note_done

ASKED = {"task": "text-classification", "texts": ["a", "b", "c", "d"], "pairs": None, "sample": 2}


class Told:
    """All that was told."""

    def __init__(self) -> None:
        self.all: list[tuple[list[int], int]] = []

    def __call__(self, done: Sequence[int], of: int) -> None:
        self.all.append((list(done), of))


def test_adapters_that_answer_together_are_equally_far_and_the_others_where_they_were() -> None:
    told = Told()
    progress = Progress(3, ASKED, told)
    with progress.of([0, 2]):
        note_done(3)
    with progress.of([1]):
        note_done(1)
        note_done(1)

    assert told.all == [([3, 0, 3], 4), ([3, 1, 3], 4), ([3, 2, 3], 4)]


def test_who_begins_anew_begins_at_nothing_and_nobody_is_beyond_the_end() -> None:
    told = Told()
    progress = Progress(1, ASKED, told)
    with progress.of([0]):
        note_done(3)
    with progress.of([0]):
        note_done(1)
        note_done(9)

    assert told.all == [([3], 4), ([1], 4), ([4], 4)]


def test_what_nobody_answers_is_not_counted() -> None:
    told = Told()
    with Progress(1, ASKED, told).of([0]):
        pass
    note_done(1)

    assert told.all == []


def test_each_turn_of_a_conversation_is_an_answer() -> None:
    told = Told()
    with Progress(1, {"conversations": [["a", "b"], ["c"]], "writing": {}}, told).of([0]):
        note_done(1)

    assert told.all == [([1], 3)]


def test_a_small_model_does_not_tell_of_each_batch() -> None:
    told = Told()
    sparing, talkative = now_and_then(told, every_s=3600), now_and_then(told, every_s=0)
    for done in (1, 2, 3):
        sparing([done], 3)
    talkative([4], 4)
    talkative([5], 5)

    assert told.all == [([1], 3), ([4], 4), ([5], 5)]


def test_shards_of_a_fleet_tell_of_all_adapters_in_their_order() -> None:
    told = Told()
    first, second = told_together([2, 1], told)
    second([5], 8)
    first([1, 2], 8)
    second([6], 8)

    assert told.all == [([0, 0, 5], 8), ([1, 2, 5], 8), ([1, 2, 6], 8)]
