from __future__ import annotations

import threading
import time

import pytest

from sdk.parallel import in_parallel


def test_results_stand_in_the_order_of_the_items_whichever_is_first() -> None:
    assert in_parallel(lambda item: time.sleep(item) or item, [0.05, 0.0, 0.02], at_once=3) == [0.05, 0.0, 0.02]
    assert in_parallel(str, [], at_once=3) == []


def test_no_more_than_that_many_run_at_once_and_that_many_do() -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(2)

    def work(_: int) -> None:
        nonlocal running, most
        with lock:
            running, most = running + 1, max(most, running + 1)
        together.wait(10)
        with lock:
            running -= 1

    in_parallel(work, list(range(6)), at_once=2)

    assert most == 2


def test_the_first_failure_is_raised_and_nothing_new_is_begun() -> None:
    begun = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.01)
        raise ValueError(item)

    with pytest.raises(ValueError, match="0"):
        in_parallel(work, list(range(50)), at_once=2)

    assert len(begun) < 10
