"""Batches that are laid out otherwise: for want of memory, and to see what hangs on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, XLNetConfig, XLNetModel

from hub.worker import noise
from hub.worker.child import _mixed
from hub.worker.layouts import again, within_memory
from hub.worker.runner import SAMPLE
from tests.nn.small_models import adapted, seeded
from tests.tiny import write_tiny_llama
from tests.worker.suite_files import write_suite
from vera.errors import VeraError
from vera.nn.heads import PooledClassifier

FAR_TOO_MUCH = 2**46  # floats


def answering(texts: list[str], *, fits: int):
    """Answers with the length of each text, and really asks for memory that there is not beyond `fits` at a time."""

    def answer(batch_size: int) -> list[str]:
        if batch_size > fits:
            torch.empty(FAR_TOO_MUCH)
        return [str(len(text)) for text in texts]

    return answer


@pytest.fixture(autouse=True)
def given_back(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """One for each time that memory was given back, which takes seconds in a process as large as that of the tests."""
    times: list[None] = []
    monkeypatch.setattr("hub.worker.layouts.give_back_memory", lambda: times.append(None))
    return times


@pytest.mark.parametrize(("fits", "used", "halved"), [(64, 32, 0), (32, 32, 0), (31, 16, 1), (3, 2, 4), (1, 1, 5)])
def test_batches_are_halved_until_they_fit(fits: int, used: int, halved: int, given_back: list[None]) -> None:
    assert within_memory(answering(["a", "bb"], fits=fits), 32) == (["1", "2"], used)
    assert len(given_back) == halved


def test_where_not_even_one_fits_that_is_said() -> None:
    with pytest.raises(VeraError, match="a worker with more is needed") as refused:
        within_memory(answering(["a"], fits=0), 4)

    assert refused.value.code == "OUT_OF_MEMORY"


def test_another_fault_is_not_taken_for_a_shortage() -> None:
    def wrong(batch_size: int) -> list[str]:
        return [str(torch.ones(2) @ torch.ones(3))]

    with pytest.raises(RuntimeError, match="size"):
        within_memory(wrong, 4)


@pytest.mark.parametrize(("batch_size", "other"), [(32, 16), (1, 2)])
def test_a_sample_is_answered_in_another_layout(batch_size: int, other: int) -> None:
    asked = {"task": "text-classification", "texts": ["x"] * 100, "pairs": None}

    found = again(lambda some, size: [f"{len(some['texts'])} {size}"], asked, batch_size)

    assert found == {"outputs": [f"{SAMPLE} {other}"], "batch_size": other}
    assert len(asked["texts"]) == 100


@pytest.mark.parametrize("items", [4, 400])
def test_noise_is_how_far_the_score_of_the_sample_moves(tmp_path: Path, items: int) -> None:
    rows = "".join(f"{number},{'cat' if number % 2 else 'dog'}\n" for number in range(items))
    suite = write_suite(tmp_path, f"text,label\n{rows}", name="tests/animals", task="text-classification")
    reply = {"outputs": ["cat"] * items, "environment": {"device": "cpu"}}
    sampled = min(32, items)

    same = noise.graded(suite, {**reply, "again": {"outputs": ["cat"] * sampled, "batch_size": 16}})
    other = noise.graded(suite, {**reply, "again": {"outputs": ["dog", *["cat"] * (sampled - 1)], "batch_size": 16}})
    unmeasured = noise.graded(suite, reply)

    assert same.environment["noise"] == {"items": sampled, "batch_size": 16, "changed": 0, "score": 0.0}
    assert other.environment["noise"] == {"items": sampled, "batch_size": 16, "changed": 1, "score": 1 / sampled}
    assert other.outcomes == same.outcomes == unmeasured.outcomes == [0, 1] * (items // 2)
    assert "noise" not in unmeasured.environment


def test_of_questions_with_choices_whole_ones_are_answered_again(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"q": "?", "choices": ["a", "b", "c", "d"], "label": 0}) + "\n" for _ in range(200))
    stated = {"task": "text-generation", "metric": "accuracy", "text": "q", "data": "items.jsonl"}
    suite = write_suite(tmp_path, rows, name="tests/choices", **stated)
    right, wrong = ["1.0 1", "2.0 1", "2.0 1", "2.0 1"], ["3.0 1", "2.0 1", "2.5 1", "2.5 1"]

    second = again(lambda some, _: wrong * (len(some["texts"]) // 4), suite.request(tmp_path), 32)
    found = noise.graded(suite, {"outputs": right * 200, "environment": {}, "again": second})

    assert len(second["outputs"]) == 128
    assert found.environment["noise"] == {"items": 32, "batch_size": 16, "changed": 32, "score": 1.0}


def test_what_a_base_cannot_answer_together_is_left_to_each_alone(tmp_path: Path) -> None:
    """Within an XLNet the tokens come first, so that its rows have no adapters of their own."""
    config = XLNetConfig(vocab_size=40, d_model=32, n_layer=1, n_head=2, d_inner=48)
    model = seeded(lambda: XLNetModel(config))
    bank = adapted(model, "layer_1", names=("a", "b"))
    heads = [PooledClassifier(model, ("cat", "dog"), adapter=(bank, name)) for name in ("a", "b")]
    heads[0].tokenizer = AutoTokenizer.from_pretrained(write_tiny_llama(tmp_path / "words"))
    asked = {"task": "text-classification", "texts": ["the cat runs"], "pairs": None}
    assert _mixed(heads, asked, 2) is None
    assert bank.active == "a"
