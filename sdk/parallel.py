"""Waiting for several things at once, and for none of them after Ctrl-C."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def in_parallel(work: Callable[[T], R], items: Sequence[T], *, at_once: int) -> list[R]:
    """`work` of each of `items`, in their order, `at_once` of them at a time. Raises what the first that fails raises.

    The threads are daemons, which ThreadPoolExecutor's are not: a download that stalls would otherwise
    keep an interrupted program alive until it times out.
    """
    if len(items) == 1:
        return [work(items[0])]
    futures: list[Future[R]] = [Future() for _ in items]
    waiting, is_over = iter(zip(futures, items, strict=True)), threading.Event()
    taking = threading.Lock()

    def run() -> None:
        while not is_over.is_set():
            with taking:
                future, item = next(waiting, (None, None))
            if future is None:
                return
            try:
                future.set_result(work(item))  # type: ignore[arg-type]  # an item stands beside every future
            except BaseException as error:
                future.set_exception(error)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(min(at_once, len(items)))]
    for thread in threads:
        thread.start()
    try:
        return [future.result() for future in futures]
    except Exception:
        is_over.set()
        for thread in threads:
            thread.join()
        raise
    finally:
        is_over.set()
