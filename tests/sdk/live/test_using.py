"""`sdk.using`: threads that pass through one live model, each through an adapter of its own."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch

import sdk
from sdk.client import Hub
from tests.sdk.live.published import output_of
from vera.errors import VeraError, VeraWarning

REFS = ("demo/a@v1", "demo/a@v2", "demo/b")
PASSES = 30  # of each thread: what is active changes under some of them, where they do not wait


@pytest.fixture
def loaded(model: Any, hub: Hub) -> Any:
    sdk.load_many(model, REFS, hub=hub)
    return model


def in_a_thread(ask: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(ask).result(timeout=60)


def test_each_thread_is_answered_through_its_own(loaded: Any) -> None:
    expected = {}
    for ref in (*REFS, None):
        with sdk.using(loaded, ref):
            expected[ref] = output_of(loaded)
    start = threading.Barrier(len(expected))

    def ask(ref: str | None) -> list[bool]:
        start.wait(timeout=60)
        right = []
        for _ in range(PASSES):
            with sdk.using(loaded, ref) as answering:
                right.append(torch.equal(output_of(answering), expected[ref]))
        return right

    with ThreadPoolExecutor(len(expected)) as pool:
        assert [all(right) for right in pool.map(ask, expected)] == [True] * len(expected)


def test_after_it_what_was_active_is_active_again(loaded: Any) -> None:
    bank = loaded.vera.bank
    sdk.activate(loaded, "demo/a@v2")
    before, shown = bank.active, loaded.vera
    with sdk.using(loaded, "demo/b"):
        assert bank.active not in (None, before)
    with pytest.raises(KeyError), sdk.using(loaded, None):
        raise KeyError(bank.active)
    assert (bank.active, loaded.vera) == (before, shown)


def test_a_classifier_comes_with_its_head(model: Any, hub: Hub) -> None:
    sdk.load_many(model, ["demo/c", "demo/d"], hub=hub)
    with sdk.using(model, "demo/c") as classifier:
        assert classifier.labels == ("cat", "dog")
        assert classifier.vera.ref == "demo/c@v1"


@pytest.mark.parametrize(
    "change",
    [
        lambda model, _: sdk.activate(model, "demo/b"),
        lambda model, hub: sdk.load(model, "demo/c", hub=hub),
        lambda model, _: sdk.unload(model, "demo/b"),
        lambda model, _: sdk.rows(model, ["demo/b", None]).__enter__(),
        lambda model, _: sdk.using(model, "demo/b").__enter__(),
    ],
    ids=["activate", "load", "unload", "rows", "using"],
)
def test_nothing_else_is_made_active_within_it(loaded: Any, hub: Hub, change: Callable[[Any, Hub], Any]) -> None:
    with sdk.using(loaded, "demo/a@v1"):
        active = loaded.vera.bank.active
        with pytest.raises(VeraError, match="leave that block first") as refused:
            change(loaded, hub)
        assert (refused.value.code, loaded.vera.bank.active) == ("ROWS_ACTIVE", active)


def test_two_coroutines_of_one_thread_are_told_to_use_threads(loaded: Any) -> None:
    """They do not wait for each other: the second would answer the first."""

    async def ask(ref: str) -> None:
        with sdk.using(loaded, ref):
            await asyncio.sleep(0)

    async def both() -> list[Any]:
        return await asyncio.gather(ask("demo/a@v1"), ask("demo/b"), return_exceptions=True)

    first, second = asyncio.run(both())
    assert first is None
    assert "asyncio.to_thread" in str(second)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model, hub, _: sdk.load(model, "demo/c", hub=hub),
        lambda model, hub, folder: sdk.save(model, folder / "mine", "demo/b", hub=hub),
    ],
    ids=["load", "save"],
)
def test_another_thread_waits(loaded: Any, hub: Hub, tmp_path: Path, ask: Callable[..., Any]) -> None:
    with ThreadPoolExecutor(1) as pool:
        with sdk.using(loaded, "demo/a@v1"):
            asked = pool.submit(ask, loaded, hub, tmp_path)
            assert not wait([asked], timeout=0.5).done
        asked.result(timeout=60)


def test_threads_that_activate_in_turn_are_warned(loaded: Any) -> None:
    sdk.activate(loaded, "demo/a@v1")
    with pytest.warns(VeraWarning, match="may answer as the other's") as told:
        in_a_thread(lambda: sdk.activate(loaded, "demo/b"))
    assert "sdk.using(model, ref)" in str(told[0].message)


def test_one_thread_after_another_is_not_warned_of(loaded: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for ref in REFS:
            in_a_thread(lambda ref=ref: sdk.activate(loaded, ref))  # type: ignore[misc]  # the loop's, now
