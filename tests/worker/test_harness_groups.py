"""Groups of lm-evaluation-harness as suites: one score of several tasks, which is the harness's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from hub.scoring import grouped, metrics
from hub.worker import noise
from hub.worker.errors import SuiteError
from hub.worker.suite_files import read_suite
from hub.worker.suites import load_suite
from tests.tiny import write_tiny_llama
from tests.worker.harnessed import (
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

SIZES = {"large": 12, "small": 3, "other": 7}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("llama"))


def write_group(folder: Path, *, tasks: list[Any] | None = None, **changed: Any) -> Path:
    """A folder with tasks of several sizes, and a group of two of them and of a group of the third."""
    for name, size in SIZES.items():
        items = folder / f"{name}.jsonl"
        write_task(
            folder, "choosing", task=name, doc_to_text=f"{name} {{{{question}}}} :",
            dataset_kwargs={"data_files": {"test": str(items)}, "cache_dir": str(folder / f"cache-{name}")},
        )  # fmt: skip
        items.write_text("".join((folder / "items.jsonl").read_text().splitlines(keepends=True)[-size:]))
    stated = {
        "group": "all", "task": tasks or ["large", {"group": "inner", "task": ["other"]}, "small"],
        "aggregate_metric_list": [{"metric": "acc", "weight_by_size": True}, {"metric": "acc_norm"}],
        "metadata": {"version": 3}, **changed,
    }  # fmt: skip
    (folder / "tasks" / "all.yaml").write_text(yaml.safe_dump({k: v for k, v in stated.items() if v is not None}))
    return folder / "tasks"


def by_turns(names: list[str]) -> list[tuple[str, int]]:
    """Which task each item is of, and which of its items: the first of each, the second of each, …"""
    return sorted(
        ((name, n) for name in names for n in range(SIZES[name])), key=lambda each: (each[1], names.index(each[0]))
    )


@pytest.mark.parametrize(
    ("listed", "here"),
    [
        ([{"metric": "acc"}, {"metric": "acc_norm"}], "accuracy"),
        ([{"metric": "acc", "weight_by_size": False}], "harness_macro"),
    ],
    ids=["by-size", "each-alike"],
)
def test_a_group_scores_what_the_harness_scores(llama: Path, tmp_path: Path, listed: list[Any], here: str) -> None:
    tasks, model = write_group(tmp_path, aggregate_metric_list=listed), adapted(llama)
    suite = suite_of(tmp_path, "all", num_fewshot=1)

    found = answered(model, suite, tmp_path)

    own = own_numbers(model, tasks, "all", num_fewshot=1)
    credits = {name: {s["doc_id"]: s["acc"] for s in own["samples"][name]} for name in SIZES}
    items = by_turns([next(iter(json.loads(each))) for each in found.outputs[:3]])
    assert [next(iter(json.loads(each))) for each in found.outputs] == [name for name, _ in items]
    names = [name for name, _ in items[:3]]
    by_task = grouped.scores([SIZES[name] for name in names], {here: found.outcomes})
    theirs = [own["results"][name]["acc,none"] for name in names]
    assert [each[here][0] for each in by_task] == pytest.approx(theirs, rel=1e-12)
    earned = [each[0] if isinstance(each, tuple) else each for each in found.outcomes]
    assert earned == [credits[name][number] for name, number in items]
    assert (suite.stated.metric, suite.items) == (here, 22)
    assert metrics.score(here, found.outcomes) == pytest.approx(own["groups"]["all"]["acc,none"], rel=1e-12)
    means = [sum(each.values()) / len(each) for each in credits.values()]
    assert len(set(means)) > 1, "how the tasks count would make no difference"
    if here == "accuracy":
        assert found.scores["accuracy_norm"] == pytest.approx(own["groups"]["all"]["acc_norm,none"], rel=1e-12)


def test_the_sample_that_is_answered_again_is_of_each_task(llama: Path, tmp_path: Path) -> None:
    write_group(tmp_path, aggregate_metric_list=[{"metric": "acc", "weight_by_size": False}])
    suite, model = suite_of(tmp_path, "all"), adapted(llama)
    reply = {"outputs": answered_rows(model, suite, tmp_path), "environment": {}}
    found = suite.results(reply)

    rows = suite.harnessed.rows_of(3) if suite.harnessed else 0
    otherwise = [json.dumps([0.0, False]), *reply["outputs"][1:rows]]
    measured = noise.graded(suite, {**reply, "again": {"outputs": otherwise, "batch_size": 2}}).environment["noise"]

    assert {next(iter(json.loads(each))) for each in found.outputs[:3]} == set(SIZES)
    changed = suite.grade(suite.outputs([*otherwise, *reply["outputs"][rows:]]))
    moved = metrics.score("harness_macro", changed) - metrics.score("harness_macro", found.outcomes)
    assert measured["items"] == suite.items
    assert measured["score"] == pytest.approx(abs(moved), abs=1e-12)


def answered_rows(model: Any, suite: Any, folder: Path) -> list[str]:
    from hub.worker import child

    return child.answers(model, suite.request(folder), 4)


def test_the_definition_says_what_the_group_is_made_of(tmp_path: Path) -> None:
    write_group(tmp_path)
    task = yaml.safe_load((tmp_path / "tasks" / "small.yaml").read_text())
    (tmp_path / "tasks" / "small.yaml").write_text(yaml.safe_dump(task | {"num_fewshot": 0}))

    suite = suite_of(tmp_path, "all", num_fewshot=2, limit=4)

    assert suite.declaration()["definition"]["harness"] == {
        "version": "0.4.13",
        "task_version": "3",
        "tasks": {
            name: {"task_version": 1.0, "num_fewshot": 0 if name == "small" else 2, "items": min(4, SIZES[name])}
            for name in SIZES
        },
        "measures": ["acc,none", "acc_norm,none"],
    }
    assert suite.items == 11


def test_a_hub_ranks_by_the_mean_over_the_tasks(llama: Path, tmp_path: Path) -> None:
    write_group(tmp_path, aggregate_metric_list=[{"metric": "acc", "weight_by_size": False}])
    suite = suite_of(tmp_path, "all")
    done = scored_at_a_hub(llama, suite, tmp_path)

    here = answered(adapted(llama), suite, tmp_path)
    assert (done.state, done.metric, done.items) == ("done", "harness_macro", 22), done.reason
    assert done.score == metrics.score("harness_macro", here.outcomes)


@pytest.mark.parametrize(
    ("changed", "stated", "says"),
    [
        ({"aggregate_metric_list": None}, {}, r"no score of its own .* name one of its tasks \(large, other, small\)"),
        ({}, {"measure": "f1"}, "all measures acc, acc_norm .of none., and not 'f1'"),
        (
            {"aggregate_metric_list": [{"metric": "bleu"}, {"metric": "acc"}]},
            {},
            "bleu of all .* each of its tasks: .* of acc",
        ),
        ({}, {"harness": "tagged"}, "is a tag of several tasks, which have no score together"),
        ({"tasks": ["large", {"group": "inner", "task": ["large"]}]}, {}, "more than once"),
    ],
    ids=["no-score", "measure", "not-all", "tag", "twice"],
)
def test_a_group_that_cannot_be_a_suite_says_why(
    tmp_path: Path, changed: dict[str, Any], stated: dict[str, Any], says: str
) -> None:
    write_group(tmp_path, **changed)
    for name in ("large", "small"):
        task = yaml.safe_load((tmp_path / "tasks" / f"{name}.yaml").read_text())
        (tmp_path / "tasks" / f"{name}.yaml").write_text(yaml.safe_dump(task | {"tag": ["tagged"]}))
    with pytest.raises(SuiteError, match=says):
        load_suite(read_suite(suite_file(tmp_path, "all", **stated)))


def test_one_task_without_the_metric_leaves_a_group_without_a_score(tmp_path: Path) -> None:
    tasks = write_group(tmp_path)
    task = yaml.safe_load((tasks / "small.yaml").read_text())
    (tasks / "small.yaml").write_text(yaml.safe_dump(task | {"metric_list": task["metric_list"][1:]}))

    with pytest.raises(
        SuiteError, match=r"acc of all cannot be kept item by item for each of its tasks: .* of acc_norm"
    ):
        load_suite(read_suite(suite_file(tmp_path, "all")))
