"""The child process: it answers, it refuses with a reason, and its death is only its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoTokenizer

from hub.scoring import metrics
from hub.worker.child import Evaluator
from hub.worker.runner import ChildDied, JobRefused, Runner
from sdk.digest_books import digest_book
from tests.tiny import load_tiny_bert, write_tiny_bert, write_tiny_llama, write_tiny_vit
from tests.tiny_adapters import make_tiny
from vera import archive, fingerprint
from vera.archive import Archive
from vera.data import Examples
from vera.manifest import WEIGHTS_FILE, AdaptedModule, Task
from vera.nn import opening
from vera.nn.attach import attach
from vera.nn.hanging import check_bare
from vera.nn.identity import prove_base
from vera.nn.tokenized import record_of
from vera.nn.training.generation import Generation
from vera.nn.training.recipe import Recipe

VIT_QUERY = "encoder.layer.0.attention.attention.query"
LLAMA_QUERY = "model.layers.0.self_attn.q_proj"

TEXTS = ["the cat sleeps", "a dog runs near the fish", "old blue bird"]


@pytest.fixture
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.stop()


def asking(adapter: Archive, base_folder: Path, folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """A request for what `adapter` answers on its base."""
    archive.write_folder(adapter, folder / "adapter")
    base = fingerprint.of_files(base_folder)
    return {
        "base": {"path": str(base_folder), "fingerprint": base.value, "tensors": base.to_rows(), "digests": None},
        "adapters": [str(folder / "adapter")],
        "asked": asked,
        "batch_size": 2,
    }


def request_of(base_folder: Path, adapter_folder: Path, *, named_base: Path | None = None) -> dict[str, Any]:
    base = fingerprint.of_files(named_base or base_folder)
    archive.write_folder(make_tiny(base, head=True), adapter_folder)
    return {
        "base": {"path": str(base_folder), "fingerprint": base.value, "tensors": base.to_rows(), "digests": None},
        "adapters": [str(adapter_folder)],
        "asked": {"task": "text-classification", "texts": TEXTS, "pairs": None},
        "batch_size": 2,
    }


def ask(runner: Runner, request: dict[str, Any]) -> dict[str, Any]:
    """The reply for the one adapter of `request`."""
    (reply,) = runner.run(request)
    if isinstance(reply, JobRefused):
        raise reply
    return reply


def test_the_child_answers_what_the_adapter_answers_here(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    request = request_of(tiny_folder, tmp_path / "adapter")
    reply = ask(runner, request)
    base = fingerprint.of_files(tiny_folder)
    here = attach(load_tiny_bert(tiny_folder), archive.read_folder(tmp_path / "adapter"), base)
    assert reply["outputs"] == here.classify(TEXTS, batch_size=2)
    assert reply["environment"]["torch"]
    assert ask(runner, request)["outputs"] == reply["outputs"]


def test_the_child_says_meanwhile_how_far_it_is(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    request = request_of(tiny_folder, tmp_path / "adapter")
    request["asked"]["texts"] = TEXTS * 1000
    told: list[tuple[list[int], int]] = []

    (reply,) = runner.run(request, lambda done, of: told.append((list(done), of)))

    assert isinstance(reply, dict)
    assert len(reply["outputs"]) == 3000
    assert told[0] == ([2], 3000)  # the first batch
    assert [done for (done,), _ in told] == sorted(done for (done,), _ in told)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="recognises what lies on a GPU")
def test_the_child_keeps_what_it_hashed_of_a_base_on_a_gpu(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    request = request_of(tiny_folder, tmp_path / "adapter")
    request["base"]["digests"] = str(tmp_path / "digests.json")
    ask(runner, request)

    with digest_book(tmp_path / "digests.json") as book:
        proof = prove_base(load_tiny_bert(tiny_folder).cuda(), fingerprint.of_files(tiny_folder), digests=book)
    assert proof.recognised == proof.tensors


def test_the_child_predicts_values_of_pairs(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    adapter = make_tiny(fingerprint.of_files(tiny_folder), head=True, task=Task("text-regression", (), "mean", 32))
    asked = {"task": "text-regression", "texts": TEXTS, "pairs": TEXTS[::-1]}
    outputs = ask(runner, asking(adapter, tiny_folder, tmp_path, asked))["outputs"]
    here = attach(load_tiny_bert(tiny_folder), adapter, fingerprint.of_files(tiny_folder))
    assert [float(each) for each in outputs] == here.predict(TEXTS, TEXTS[::-1], batch_size=2)


def test_the_child_labels_images(runner: Runner, tmp_path: Path) -> None:
    base_folder = write_tiny_vit(tmp_path / "vit")
    images = [tmp_path / name for name in ("red", "blue")]
    for path in images:
        Image.new("RGB", (16, 16), path.name).save(path, "png")
    adapter = make_tiny(
        fingerprint.of_files(base_folder),
        modules=(AdaptedModule(VIT_QUERY, 32, 32),),
        head=True,
        task=Task("image-classification", ("cat", "dog"), "cls"),
    )
    asked = {"task": "image-classification", "images": [str(path) for path in images]}
    assert set(ask(runner, asking(adapter, base_folder, tmp_path, asked))["outputs"]) <= {"cat", "dog"}


def test_the_likelihoods_of_a_generator_are_its_training_loss(runner: Runner, tmp_path: Path) -> None:
    base_folder = write_tiny_llama(tmp_path / "llama")
    adapter = make_tiny(fingerprint.of_files(base_folder), modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
    texts, completions = ["the cat", "", "old"], ["runs far", "sleeps", "and new and blue fish"]
    asked = {"texts": texts, "completions": completions, "max_length": 16, "separator": " ", "chat": False}
    outputs = ask(runner, asking(adapter, base_folder, tmp_path, {"task": "text-generation", **asked}))["outputs"]
    pairs = [tuple(map(float, output.split())) for output in outputs]

    base = fingerprint.of_files(base_folder)
    here = attach(AutoModelForCausalLM.from_pretrained(base_folder).eval(), adapter, base)
    recipe = Recipe(batch_size=2, max_length=16, separator=" ")
    expected = Generation(here, recipe).score(Examples(tuple(texts), tuple(completions)))

    assert [tokens for _, tokens in pairs] == [3, 2, 6]  # with the token that ends each
    # sums of float32 losses in another order
    assert metrics.score("perplexity", pairs) == pytest.approx(expected["perplexity"], rel=1e-5)


def test_a_base_that_is_stored_rounded_answers_in_float32(tiny_folder: Path, tmp_path: Path) -> None:
    load_tiny_bert(tiny_folder).to(torch.bfloat16).save_pretrained(tmp_path / "rounded")
    AutoTokenizer.from_pretrained(tiny_folder).save_pretrained(tmp_path / "rounded")
    request, evaluator = request_of(tmp_path / "rounded", tmp_path / "adapter"), Evaluator()

    (reply,) = evaluator.answer(request)["replies"]

    assert "outputs" in reply, reply
    assert evaluator._loaded is not None
    assert {each.dtype for each in evaluator._loaded[1].parameters()} == {torch.float32}


def test_a_base_is_gone_before_the_next_is_opened(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = request_of(tiny_folder, tmp_path / "adapter")
    second = request_of(write_tiny_bert(tmp_path / "other", seed=1), tmp_path / "second")
    evaluator, gone, open_base = Evaluator(), [], opening.open_base
    evaluator.answer(first)
    assert evaluator._loaded is not None
    old = weakref.ref(evaluator._loaded[1])

    def opened(*args: Any) -> Any:
        gone.append(old() is None)
        if len(gone) > 1:
            return torch.empty(2**46)
        return open_base(*args)

    monkeypatch.setattr(opening, "open_base", opened)
    (reply,) = evaluator.answer(second)["replies"]
    (refused,) = evaluator.answer(first)["replies"]

    assert gone == [True, True]
    assert "outputs" in reply
    assert refused["error"]["code"] == "OUT_OF_MEMORY"


def test_a_base_is_bare_again_after_each_reply(tiny_folder: Path, tmp_path: Path) -> None:
    evaluator = Evaluator()
    (reply,) = evaluator.answer(request_of(tiny_folder, tmp_path / "adapter"))["replies"]
    assert "outputs" in reply, reply
    assert evaluator._loaded is not None
    check_bare(evaluator._loaded[1])


def test_a_kept_base_is_opened_anew_for_what_answers_otherwise(tmp_path: Path) -> None:
    base_folder = write_tiny_llama(tmp_path / "llama")
    base, modules = fingerprint.of_files(base_folder), (AdaptedModule(LLAMA_QUERY, 32, 32),)
    texts = {"task": "text-classification", "texts": TEXTS, "pairs": None}
    completed = {"completions": TEXTS, "max_length": 16, "separator": " ", "chat": False}
    classifies = make_tiny(
        base, modules=modules, head=True, task=Task("text-classification", ("cat", "dog"), "mean", 16)
    )
    requests = [
        asking(classifies, base_folder, tmp_path / "classifies", texts),
        asking(
            make_tiny(base, modules=modules),
            base_folder,
            tmp_path / "writes",
            {**texts, "task": "text-generation", **completed},
        ),
    ]
    kept = Evaluator()

    for request in (*requests, *requests):
        (reply,), (alone,) = kept.answer(request)["replies"], Evaluator().answer(request)["replies"]
        assert reply["outputs"] == alone["outputs"]


def test_an_adapter_whose_texts_are_read_otherwise_is_refused_beside_one_that_says_nothing(
    tiny_folder: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    state = json.loads((other / "tokenizer.json").read_text())
    words = state["model"]["vocab"]
    words["cat"], words["dog"] = words["dog"], words["cat"]
    (other / "tokenizer.json").write_text(json.dumps(state))
    base, folders = (
        fingerprint.of_files(tiny_folder),
        [tmp_path / name for name in ("silent", "trained", "swapped", "again")],
    )
    for seed, (folder, read) in enumerate(zip(folders, (None, tiny_folder, other, tiny_folder), strict=True)):
        made = make_tiny(base, seed=seed, head=True)
        record = read and record_of(AutoTokenizer.from_pretrained(read))
        manifest = replace(made.manifest, base=replace(made.manifest.base, tokenizer=record))
        archive.write_folder(archive.seal(manifest, made.files[WEIGHTS_FILE], made.card), folder)
    request = {**request_of(other, tmp_path / "any"), "adapters": [str(folder) for folder in folders]}

    silent, trained, swapped, again = Evaluator().answer(request)["replies"]

    assert "outputs" in silent
    assert "outputs" in swapped
    assert trained["error"]["code"] == again["error"]["code"] == "BASE_TOKENIZER_MISMATCH"


@pytest.mark.parametrize("damaged", ["{", json.dumps({"model": {"type": "of no kind"}})], ids=["half", "kind"])
def test_a_tokenizer_that_cannot_be_opened_is_a_reason_and_the_child_lives_on(
    runner: Runner, tiny_folder: Path, tmp_path: Path, damaged: str
) -> None:
    broken = shutil.copytree(tiny_folder, tmp_path / "broken")
    (broken / "tokenizer.json").write_text(damaged)
    made = make_tiny(fingerprint.of_files(tiny_folder), head=True)
    record = record_of(AutoTokenizer.from_pretrained(tiny_folder))
    reading = archive.seal(
        replace(made.manifest, base=replace(made.manifest.base, tokenizer=record)), made.files[WEIGHTS_FILE], made.card
    )
    folders = []
    for name, adapter in (("silent", made), ("beside it", made), ("recorded", reading)):
        archive.write_folder(adapter, tmp_path / name)
        folders.append(str(tmp_path / name))

    replies = runner.run({**request_of(broken, tmp_path / "any"), "adapters": folders})
    child = runner._child

    assert [type(reply) for reply in replies] == [JobRefused] * 3
    assert {reply.code for reply in replies if isinstance(reply, JobRefused)} == {"TOKENIZER_UNREADABLE"}
    assert all("cannot be opened by transformers" in str(reply) for reply in replies)
    assert ask(runner, request_of(tiny_folder, tmp_path / "whole"))["outputs"]
    assert runner._child is child


def test_the_half_of_a_reply_is_a_death(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    half = 'import os, sys; sys.stdin.readline(); os.write(1, b\'{"replies": [{"outp\')'
    child = subprocess.Popen([sys.executable, "-c", half], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    monkeypatch.setattr(runner, "_child", child)

    with pytest.raises(ChildDied, match="gave no answer"):
        runner.run({})


SEVERAL = {
    "text-classification": ({"texts": TEXTS, "pairs": None}, None),
    "text-regression": ({"texts": TEXTS, "pairs": TEXTS[::-1]}, Task("text-regression", (), "mean", 32)),
}


@pytest.mark.parametrize("task", SEVERAL)
def test_several_adapters_answer_together_what_each_answers_alone(
    runner: Runner, tiny_folder: Path, tmp_path: Path, task: str
) -> None:
    (asked, heads), base = SEVERAL[task], fingerprint.of_files(tiny_folder)
    requests = []
    for seed in range(4):  # of two pairs of matrices
        (tmp_path / str(seed)).mkdir()
        adapter = make_tiny(base, seed=seed, pair_seed=seed % 2, head=True, task=heads)
        requests.append(asking(adapter, tiny_folder, tmp_path / str(seed), {"task": task, **asked}))
    alone = [ask(runner, request) for request in requests]

    together = runner.run({**requests[0], "adapters": [folder for each in requests for folder in each["adapters"]]})

    assert [reply["outputs"] for reply in together] == [reply["outputs"] for reply in alone]
    assert len({str(reply["outputs"]) for reply in alone}) > 1
    assert [reply["environment"]["adapters_in_batch"] for reply in together] == [4] * 4
    assert alone[0]["environment"]["adapters_in_batch"] == 1


def test_one_that_is_refused_does_not_keep_the_others(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    request = request_of(tiny_folder, tmp_path / "adapter")
    wrong = request_of(tiny_folder, tmp_path / "wrong", named_base=write_tiny_bert(tmp_path / "other", seed=1))
    (tmp_path / "damaged").mkdir()
    expected = ask(runner, request)["outputs"]

    first, second, third, fourth = runner.run(
        {
            **request,
            "adapters": [*wrong["adapters"], *request["adapters"], str(tmp_path / "damaged"), *request["adapters"]],
        }
    )

    assert isinstance(first, JobRefused)
    assert first.code == "BASE_MISMATCH"
    assert isinstance(third, JobRefused)
    assert not isinstance(second, JobRefused)
    assert not isinstance(fourth, JobRefused)
    assert second["outputs"] == fourth["outputs"] == expected


def test_generators_answer_one_after_the_other(runner: Runner, tmp_path: Path) -> None:
    base_folder = write_tiny_llama(tmp_path / "llama")
    asked = {
        "task": "text-generation", "texts": ["the cat", "old"], "completions": ["runs far", "and new"],
        "max_length": 16, "separator": " ", "chat": False,
    }  # fmt: skip
    requests = []
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        modules = (AdaptedModule(LLAMA_QUERY, 32, 32),)
        adapter = make_tiny(fingerprint.of_files(base_folder), seed=seed, modules=modules)
        requests.append(asking(adapter, base_folder, tmp_path / str(seed), asked))
    alone = [ask(runner, request)["outputs"] for request in requests]

    together = runner.run({**requests[0], "adapters": [each["adapters"][0] for each in requests]})

    assert [reply["outputs"] for reply in together] == alone
    assert alone[0] != alone[1]


def test_a_suite_of_another_task_is_refused(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    adapter = make_tiny(fingerprint.of_files(tiny_folder), head=True)
    asked = {"task": "text-regression", "texts": TEXTS, "pairs": None}
    with pytest.raises(JobRefused, match="for text-classification") as caught:
        ask(runner, asking(adapter, tiny_folder, tmp_path, asked))
    assert caught.value.code == "TASK_MISMATCH"


def test_a_wrong_base_is_refused_and_the_child_lives_on(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    other = write_tiny_bert(tmp_path / "other", seed=1)
    with pytest.raises(JobRefused, match="is not the base") as caught:
        ask(runner, request_of(tiny_folder, tmp_path / "wrong", named_base=other))
    assert caught.value.code == "BASE_MISMATCH"
    assert ask(runner, request_of(tiny_folder, tmp_path / "right"))["outputs"]


def test_a_killed_child_is_an_error_and_the_next_job_runs(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    request = request_of(tiny_folder, tmp_path / "adapter")

    def kill_when_started() -> None:
        while runner._child is None:
            time.sleep(0.01)
        os.kill(runner._child.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_when_started)
    killer.start()
    with pytest.raises(ChildDied, match="no answer"):
        ask(runner, request)
    killer.join()
    assert ask(runner, request)["outputs"]


def test_stopping_from_another_thread_ends_the_wait(runner: Runner, tiny_folder: Path, tmp_path: Path) -> None:
    timer = threading.Timer(0.2, runner.stop)
    timer.start()
    with pytest.raises(ChildDied):
        ask(runner, request_of(tiny_folder, tmp_path / "adapter"))
    timer.join()


def test_the_child_has_no_token(
    runner: Runner, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERA_HUB_TOKEN", "vhw_secret")
    ask(runner, request_of(tiny_folder, tmp_path / "adapter"))
    assert runner._child is not None
    environment = Path(f"/proc/{runner._child.pid}/environ").read_bytes()
    assert b"vhw_secret" not in environment
    assert b"HF_HUB_OFFLINE=1" in environment
