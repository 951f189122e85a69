"""A decoder writes, and what it wrote is measured beside references: from the child to the board."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hub.worker.suite import Suite
from sdk.pushing import push_archive
from tests.tiny import write_tiny_llama
from tests.tiny_adapters import make_tiny
from tests.worker.lab import Lab
from tests.worker.suite_files import write_suite
from vera import fingerprint
from vera.manifest import AdaptedModule
from vera.nn.attach import attach
from vera.nn.inputs import tokenizer_of
from vera.nn.writing import Writing, written
from vera.ref import AdapterRef

LLAMA_QUERY = "model.layers.0.self_attn.q_proj"
PROMPTS = ["the cat", "old", "a dog runs near the blue fish", ""]
needs_packages = pytest.mark.skipif(
    importlib.util.find_spec("sacrebleu") is None, reason="the extra nlg is not installed"
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


def adapted(llama: Path) -> torch.nn.Module:
    adapter = make_tiny(fingerprint.of_files(llama), modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
    return attach(AutoModelForCausalLM.from_pretrained(llama).eval(), adapter, fingerprint.of_files(llama))


def test_what_is_written_is_the_likeliest_token_at_each_step_alone_or_in_a_batch(llama: Path) -> None:
    model = adapted(llama)
    tokenizer = tokenizer_of(model)
    expected = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt and prompt + " ")["input_ids"] or [tokenizer.bos_token_id]
        start = len(ids)
        for _ in range(6):
            with torch.inference_mode():
                ids = [*ids, int(model(torch.tensor([ids])).logits[0, -1].argmax())]
            if ids[-1] == tokenizer.eos_token_id:
                break
        expected.append(tokenizer.decode(ids[start:], skip_special_tokens=True).strip())
    options = {"max_length": 32, "separator": " "}
    assert written(model, PROMPTS, Writing(6), batch_size=1, **options) == expected
    assert written(model, PROMPTS, Writing(6), batch_size=4, **options) == expected
    assert len(set(expected)) > 1


def test_a_prompt_that_is_too_long_is_cut_at_its_beginning(llama: Path) -> None:
    model, options = adapted(llama), {"batch_size": 1, "separator": " "}
    (whole,) = written(model, ["runs near the blue fish"], Writing(4), max_length=32, **options)
    assert written(model, ["the cat runs near the blue fish"], Writing(4), max_length=9, **options) == [whole]


def test_no_configuration_of_the_base_decides_how_is_written(llama: Path) -> None:
    model, options = adapted(llama), {"batch_size": 2, "max_length": 32, "separator": " "}
    expected = written(model, PROMPTS, Writing(6), **options)
    model.generation_config.update(do_sample=True, repetition_penalty=9.0, num_beams=3, min_length=30)
    assert written(model, PROMPTS, Writing(6), **options) == expected


def test_a_token_that_the_base_ends_with_ends_a_text_too(llama: Path) -> None:
    model, options = adapted(llama), {"batch_size": 2, "max_length": 32, "separator": " "}
    whole = written(model, PROMPTS, Writing(6), **options)
    ending = whole[0].split()[2]
    model.generation_config.eos_token_id = [3, tokenizer_of(model).convert_tokens_to_ids(ending)]
    assert written(model, PROMPTS, Writing(6), **options) == [text.split(ending)[0].strip() for text in whole]


def test_what_may_not_come_twice_is_of_the_text_and_not_of_the_prompt(llama: Path) -> None:
    model, options = adapted(llama), {"batch_size": 2, "max_length": 64, "separator": " "}
    plain = written(model, PROMPTS, Writing(20), **options)
    prompts = [f"{prompt} {text}" for prompt, text in zip(PROMPTS, plain, strict=True)]
    tokenizer, expected = tokenizer_of(model), []
    for prompt in prompts:
        ids, text = tokenizer(prompt + " ")["input_ids"], []
        while len(text) < 20 and tokenizer.eos_token_id not in text:
            with torch.inference_mode():
                likeliest = model(torch.tensor([ids + text])).logits[0, -1].argsort(descending=True).tolist()
            pairs = set(pairwise(text))
            text.append(next(token for token in likeliest if not text or (text[-1], token) not in pairs))
        expected.append(tokenizer.decode(text, skip_special_tokens=True).strip())
    assert written(model, prompts, Writing(20, no_repeat_ngram=2), **options) == expected
    assert any(
        set(pairwise(text.split())) & set(pairwise(prompt.split()))
        for text, prompt in zip(expected, prompts, strict=True)
    )


def meals(folder: Path) -> Suite:
    rows = "prompt,completion\nthe cat,sleeps near the fish\nold,dog\nthe cat,runs far\n"
    return write_suite(
        folder, rows, name="tests/meals", task="text-generation", metric="bleu", also=["nist", "meteor"],
        separator=" ", max_new_tokens=5, max_length=32, beams=2,
    )  # fmt: skip


@needs_packages
def test_a_generation_suite_goes_from_the_push_to_the_board(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no Java, wherever this runs
    lab, suite = Lab(tmp_path, llama), meals(tmp_path)
    lab.worker.suites = {suite.name: suite}
    with lab.http:
        lab.worker.hub.register_worker("w", [suite.declaration()], key=lab.worker.key)
        adapter = make_tiny(lab.base, modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
        ref = push_archive(lab.user, adapter, AdapterRef("demo", "tiny")).version.ref
        asked = lab.user.request_evaluation(ref, suite.name).id
        lab.start_worker()
        done = lab.wait(asked, lambda evaluation: evaluation.is_over)
        lab.stop_worker()

        assert (done.state, done.items, done.metric) == ("done", 2, "bleu")
        assert done.environment is not None
        assert "needs Java" in done.environment["not_computed"]["meteor"]
        assert set(done.environment["scorers"]) >= {"sacrebleu"}
        nist = done.beside["nist"]
        assert nist is not None
        assert nist.interval[0] <= nist.score <= nist.interval[1]
        assert done.beside["meteor"] is None
        (row,) = lab.user.leaderboard(suite.name).rows
        assert (row.score, row.beside) == (done.score, done.beside)
        page = lab.http.get(f"/leaderboards/{suite.name}").text
        assert f"NIST {nist.score:.3f}, METEOR not computed" in " ".join(page.split())
