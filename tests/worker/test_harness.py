"""Tasks of lm-evaluation-harness as suites: the numbers of the harness itself, from its own code over data of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hub.cli import suite as suite_command
from hub.scoring import metrics
from hub.worker import harness
from hub.worker.errors import NotComputed, SuiteError
from hub.worker.suite_files import read_suite
from hub.worker.suites import load_suite
from tests.tiny import write_tiny_llama
from tests.worker.harnessed import (
    ROWS,
    TASKS,
    adapted,
    answered,
    own_numbers,
    scored_at_a_hub,
    suite_file,
    suite_of,
    write_task,
)

pytest.importorskip("lm_eval", reason="the extra lm-eval is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the harness's own imports

HERE = {"choosing": "accuracy", "writing": "exact_match", "reading": "perplexity", "guessing": "perplexity"}
THERE = {"choosing": "acc", "writing": "exact_match", "reading": "word_perplexity", "guessing": "perplexity"}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


@pytest.mark.parametrize("task", TASKS)
def test_a_task_scores_item_by_item_what_the_harness_scores(llama: Path, tmp_path: Path, task: str) -> None:
    tasks, model = write_task(tmp_path, task), adapted(llama)
    suite = suite_of(tmp_path, task, num_fewshot=None if task == "reading" else 2)

    found = answered(model, suite, tmp_path)

    own = own_numbers(model, tasks, task, num_fewshot=None if task == "reading" else 2)
    samples = sorted(own["samples"][task], key=lambda sample: sample["doc_id"])
    items = [outcome_of(sample[THERE[task]]) for sample in samples]
    assert suite.stated.metric == HERE[task]
    # float32 sums in batches of another size
    assert [pytest.approx(each, rel=1e-5) for each in items] == found.outcomes
    total = own["results"][task][f"{THERE[task]},none"]
    assert metrics.score(suite.stated.metric, found.outcomes) == pytest.approx(total, rel=1e-5)
    assert len({str(each) for each in found.outputs}) > 1
    for beside, there in (("accuracy_norm", "acc_norm"), ("accuracy", "acc")):
        if beside in found.beside:
            assert found.beside[beside] == [sample[there] for sample in samples]


def outcome_of(value: Any) -> Any:
    """A value of the harness as it is stored here: of a likelihood its nats, and its words."""
    if isinstance(value, tuple | list):
        return (-value[0], value[1])
    return (-value, 1.0) if value < 0 else value


def test_a_hub_ranks_by_what_its_worker_has_of_the_task(llama: Path, tmp_path: Path) -> None:
    write_task(tmp_path, "choosing")
    suite = suite_of(tmp_path, "choosing", limit=8)
    done = scored_at_a_hub(llama, suite, tmp_path)

    here = answered(adapted(llama), suite, tmp_path)
    assert (done.state, done.metric, done.items) == ("done", "accuracy", 8), done.reason
    assert done.score == metrics.score("accuracy", here.outcomes)
    assert (done.environment or {})["scorers"] == {"lm_eval": harness.version()}
    assert suite.declaration()["definition"]["harness"]["num_fewshot"] is None


def test_the_child_is_sent_no_right_answer(tmp_path: Path) -> None:
    write_task(tmp_path, "choosing")
    suite = suite_of(tmp_path, "choosing", limit=2)
    assert suite.request(tmp_path)["harness"] == [
        ["loglikelihood", f"near {row['question']} :", f" {choice}"] for row in ROWS[:2] for choice in row["choices"]
    ]


@pytest.mark.parametrize(
    ("stated", "says"),
    [
        ({"harness_version": "0.1.0"}, r"0\.1\.0, and .* is installed"),
        ({"harness_version": None}, "harness_version is missing"),
        ({"harness": "unheard_of"}, "no task or group of lm-evaluation-harness: .*tasks has choosing"),
        ({"measure": "bleu"}, r"measures acc, acc_norm \(of none\), and not 'bleu'"),
        ({"metric": "accuracy"}, "metric is the task's own: leave it out"),
        ({"prompt": "a {text}"}, "prompt is the task's own"),
        ({"harness": None, "harness_version": None, "measure": "acc"}, "measure is of a task of lm-evaluation-harness"),
        ({"sha256": f"sha256:{'0' * 64}"}, "and the items of choosing has sha256:"),
    ],
    ids=["version", "no-version", "task", "measure", "metric", "prompt", "no-task", "digest"],
)
def test_what_is_wrong_with_such_a_suite_is_said(tmp_path: Path, stated: dict[str, Any], says: str) -> None:
    write_task(tmp_path, "choosing")
    with pytest.raises(SuiteError, match=says):
        load_suite(read_suite(suite_file(tmp_path, "choosing", **stated)))


@pytest.mark.parametrize(
    ("task", "changed", "says"),
    [
        ("choosing", {"dataset_kwargs": {"data_files": "/nowhere/items.jsonl"}}, "is not to be had .*name its folder"),
        ("reading", {"metric_list": TASKS["reading"]["metric_list"][1:]}, "bits_per_byte .* item by item"),
        ("writing", {"generation_kwargs": {"until": ["old"], "do_sample": True}}, "draws its texts at random"),
        ("writing", {"generation_kwargs": {"until": ["old"], "temperature": 0.7}}, "draws its texts at random"),
        ("writing", {"unsafe_code": True}, "runs what adapters write as a program"),
        ("choosing", {"num_fewshot": 0}, "by its own file: leave out num_fewshot, which is 2"),
    ],
    ids=["data", "measure", "random", "temperature", "program", "no-examples"],
)
def test_a_task_that_cannot_be_a_suite_says_why(tmp_path: Path, task: str, changed: dict[str, Any], says: str) -> None:
    write_task(tmp_path, task, **changed)
    with pytest.raises(SuiteError, match=says):
        load_suite(read_suite(suite_file(tmp_path, task, num_fewshot=2)))


def test_without_the_harness_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_name: str) -> str:
        raise harness.metadata.PackageNotFoundError

    write_task(tmp_path, "choosing")
    path = suite_file(tmp_path, "choosing")
    monkeypatch.setattr(harness.metadata, "version", missing)
    with pytest.raises(NotComputed, match=r"pip install 'vera-hub\[lm-eval\]'"):
        load_suite(read_suite(path))


def test_check_shows_the_task(tmp_path: Path) -> None:
    write_task(tmp_path, "choosing")
    suite_of(tmp_path, "choosing")

    shown = CliRunner().invoke(suite_command, ["check", str(tmp_path / "suite.yaml"), "--show", "1"])

    assert shown.exit_code == 0, shown.output
    assert "lm-eval:choosing, 12 items" in shown.output
    assert "near the cat of the fish" in shown.output.replace("…", "")
