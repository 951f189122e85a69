"""Tasks of lm-evaluation-harness in a base's chat template: the same conversations, and so the same numbers, as the harness's."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from hub.worker.errors import SuiteError
from hub.worker.suite_files import read_suite
from hub.worker.suites import load_suite
from tests.tiny import write_tiny_llama
from tests.worker.harnessed import adapted, answered, own_numbers, suite_file, suite_of, write_task
from vera.errors import DataError

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness's own imports

THERE = {"choosing": "acc", "writing": "exact_match", "guessing": "perplexity"}
ROLES = "{% for m in messages %}{{ 'old' if m['role'] == 'system' else '[USER]' }} {{ m['content'] }} {% endfor %}"
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + ROLES


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("task", THERE)
@pytest.mark.parametrize(
    ("stated", "asked"),
    [
        ({}, {"fewshot_as_multiturn": True}),
        ({"fewshot_as_multiturn": False}, {"fewshot_as_multiturn": False}),
        ({"system_instruction": "the bird"}, {"fewshot_as_multiturn": True, "system_instruction": "the bird"}),
    ],
    ids=["turns", "one-turn", "system"],
)
def test_a_chat_is_asked_as_the_harness_asks_it(
    llama: Path, tmp_path: Path, task: str, stated: dict[str, Any], asked: dict[str, Any]
) -> None:
    tasks, model = write_task(tmp_path, task), adapted(llama)
    suite = suite_of(tmp_path, task, num_fewshot=2, chat_template=True, **stated)

    found = answered(model, suite, tmp_path)

    own = own_numbers(model, tasks, task, num_fewshot=2, apply_chat_template=True, **asked)
    there = [resps_of(sample) for sample in sorted(own["samples"][task], key=lambda sample: sample["doc_id"])]
    here = [numbers_of(each) for each in found.outputs]
    if task == "writing":
        assert here == there
    else:  # float32 sums in batches of another size
        assert here == [pytest.approx(each, rel=1e-5) for each in there]
    plain = answered(model, suite_of(tmp_path, task, num_fewshot=2), tmp_path)
    assert here != [numbers_of(each) for each in plain.outputs]
    assert found.scores[suite.stated.metric] == pytest.approx(own["results"][task][f"{THERE[task]},none"], rel=1e-5)


def resps_of(sample: dict[str, Any]) -> list[Any]:
    said = [each for resps in sample["resps"] for each in resps]
    return [number for each in said for number in (each if isinstance(each, tuple) else [each])]


def numbers_of(output: str) -> list[Any]:
    said = json.loads(output)
    return [number for each in said for number in (each if isinstance(each, list) else [each])]


def test_an_answer_that_is_begun_is_gone_on_with(llama: Path, tmp_path: Path) -> None:
    tasks, model = write_task(tmp_path, "writing", gen_prefix="the"), adapted(llama)
    found = answered(model, suite_of(tmp_path, "writing", chat_template=True), tmp_path)

    own = own_numbers(model, tasks, "writing", apply_chat_template=True, fewshot_as_multiturn=True)
    samples = sorted(own["samples"]["writing"], key=lambda sample: sample["doc_id"])
    assert [numbers_of(each) for each in found.outputs] == [resps_of(sample) for sample in samples]
    assert samples[0]["arguments"][0][0].endswith("the")


def test_how_a_chat_is_asked_is_part_of_the_definition(tmp_path: Path) -> None:
    write_task(tmp_path, "choosing")
    plain = suite_of(tmp_path, "choosing", num_fewshot=2).declaration()["definition"]
    asked: list[dict[str, Any]] = [
        {"chat_template": True},
        {"chat_template": True, "fewshot_as_multiturn": False},
        {"chat_template": True, "system_instruction": "the bird"},
        {"system_instruction": "the bird"},
    ]

    chats = [suite_of(tmp_path, "choosing", num_fewshot=2, **each).declaration()["definition"] for each in asked]

    assert [each["harness"].keys() - plain["harness"].keys() for each in chats] == [
        {"chat_template", "fewshot_as_multiturn"},
        {"chat_template"},
        {"chat_template", "fewshot_as_multiturn", "system_instruction"},
        {"system_instruction"},
    ]
    assert len({str(each["harness"]) for each in (plain, *chats)}) == 5
    assert len({each["data"]["digest"] for each in (plain, *chats)}) == 5


@pytest.fixture
def templated(tmp_path: Path) -> Callable[[str | None], Any]:
    """An adapted base with another chat template, or none."""
    base = write_tiny_llama(tmp_path / "base")

    def made(template: str | None) -> Any:
        tokenizer = AutoTokenizer.from_pretrained(base)
        tokenizer.chat_template = template
        (base / "chat_template.jinja").unlink(missing_ok=True)
        tokenizer.save_pretrained(base)
        return adapted(base)

    return made


def test_a_base_without_a_template_is_refused(templated: Callable[[str | None], Any], tmp_path: Path) -> None:
    write_task(tmp_path, "choosing")
    with pytest.raises(DataError, match="no chat template: leave out `chat_template`"):
        answered(templated(None), suite_of(tmp_path, "choosing", chat_template=True), tmp_path)


def test_a_template_that_knows_no_system_is_asked_without_as_the_harness_does(
    templated: Callable[[str | None], Any], tmp_path: Path
) -> None:
    write_task(tmp_path, "choosing")
    with_system = suite_of(tmp_path, "choosing", chat_template=True, system_instruction="the bird")
    without = suite_of(tmp_path, "choosing", chat_template=True)

    refused = answered(templated(NO_SYSTEM), with_system, tmp_path)

    assert refused.outputs == answered(templated(ROLES), without, tmp_path).outputs
    assert refused.outputs != answered(templated(ROLES), with_system, tmp_path).outputs


def test_a_template_that_refuses_the_conversation_says_why(
    templated: Callable[[str | None], Any], tmp_path: Path
) -> None:
    write_task(tmp_path, "choosing")
    with pytest.raises(DataError, match=r"refuses what the suite asks: one turn alone\."):
        answered(
            templated("{{ raise_exception('one turn alone') }}"),
            suite_of(tmp_path, "choosing", chat_template=True),
            tmp_path,
        )


@pytest.mark.parametrize(
    ("task", "stated", "says"),
    [
        ("reading", {"chat_template": True}, "beside answers to prompts, .* leave out `chat_template`"),
        ("choosing", {"chat": True}, "by `chat_template: true`"),
        ("choosing", {"fewshot_as_multiturn": True}, "write `chat_template: true` too"),
        ("choosing", {"chat_template": "yes"}, "which is not true or false"),
        (
            "choosing",
            {"harness": None, "harness_version": None, "chat_template": True},
            "chat_template is of a task of lm-evaluation-harness",
        ),
    ],
    ids=["whole-texts", "chat", "turns", "kind", "no-task"],
)
def test_what_is_no_chat_is_said(tmp_path: Path, task: str, stated: dict[str, Any], says: str) -> None:
    write_task(tmp_path, task)
    with pytest.raises(SuiteError, match=says):
        load_suite(read_suite(suite_file(tmp_path, task, **stated)))
