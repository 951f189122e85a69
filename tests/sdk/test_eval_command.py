from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import httpx2
import pytest

from tests.builders import make_archive
from tests.sdk.commands import run
from tests.sdk.fakes import FakeHub, evaluation_json, problem, serve

EVALUATIONS = "/api/v1/evaluations"
OLD, NEW = make_archive(seed=1), make_archive(seed=2)
ARGUMENTS = ("eval", "demo/a@v2", "--suite", "demo/topics")


def evaluation(number: int, **changes: object) -> dict[str, Any]:
    archive = OLD if number == 1 else NEW
    own = {"id": f"e{number}", "ref": f"demo/a@v{number}", "version_digest": archive.manifest.digest}
    return evaluation_json(**{**own, "score": 0.8 if number == 1 else 0.82, **changes})


def waiting(number: int, **changes: object) -> dict[str, Any]:
    fresh = {
        "state": "waiting",
        "score": None,
        "interval": None,
        "attempts": 0,
        "started_at": None,
        "finished_at": None,
    }
    return evaluation(number, **{**fresh, "worker": None, "position": 2, **changes})


def comparison(delta: float, low: float, high: float, p_value: float) -> dict[str, Any]:
    return {
        "metric": "accuracy",
        "items": 400,
        "score": 0.8 + delta,
        "against_score": 0.8,
        "delta": delta,
        "interval": [low, high],
        "p_value": p_value,
        "only_better": 10,
        "only_worse": 20,
        "method": "exact McNemar; paired bootstrap",
        "items_are_public": False,
    }


BETTER, UNCLEAR, WORSE = (
    comparison(0.05, 0.02, 0.08, 0.001),
    comparison(0.01, -0.02, 0.04, 0.5),
    comparison(-0.05, -0.08, -0.02, 0.001),
)


@pytest.fixture
def hub(fake: FakeHub) -> FakeHub:
    """A hub on which demo/a has two versions, of which the second is done and the first is asked for after it."""
    fake.publish("demo/a", OLD)
    fake.publish("demo/a", NEW)
    fake.canned[f"POST {EVALUATIONS}"] = [evaluation(2), evaluation(1)]
    return fake


@pytest.fixture
def url(fake: FakeHub) -> Iterator[str]:
    with serve(fake) as at:
        yield at


def asked_for(hub: FakeHub) -> list[dict[str, Any]]:
    return [json.loads(request.content) for request in hub.requests if request.url.path == EVALUATIONS]


# -- Asking and waiting ---------------------------------------------------------------------------


def test_without_wait_it_asks_and_says_how_to_see_the_result(hub: FakeHub, url: str) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [waiting(2)]

    done = run(url, *ARGUMENTS)

    assert done.exit_code == 0
    assert "vera-hub eval demo/a@v2 --suite demo/topics --wait" in done.stdout
    assert asked_for(hub) == [{"ref": "demo/a@v2", "suite": "demo/topics"}]


def test_with_wait_it_tells_what_is_going_on_and_shows_the_score(hub: FakeHub, url: str) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [waiting(2)]
    running = {"state": "running", "score": None, "interval": None}
    hub.canned[f"GET {EVALUATIONS}/e2"] = [
        evaluation(2, **running), evaluation(2, **running, items_done=1200, items=4000), evaluation(2)
    ]  # fmt: skip

    done = run(url, *ARGUMENTS, "--wait")

    assert done.exit_code == 0
    assert "accuracy 0.8200, 95% interval [0.7500, 0.8400], 400 items" in done.stdout
    assert done.stderr.splitlines() == [
        "demo/a@v2 on demo/topics: waiting, number 2 in the queue",
        "demo/a@v2 on demo/topics: running on w",
        "demo/a@v2 on demo/topics: running on w, 1,200 of 4,000 items",
    ]


def test_of_a_group_it_shows_what_each_task_is_worth(hub: FakeHub, url: str, tmp_path: Path) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [evaluation(2, tasks=2)] * 2
    scores = {"accuracy": {"score": 0.75, "interval": [0.47, 0.91]}}
    task = {"task": "mmlu_anatomy", "version": "1", "num_fewshot": 5, "items": 135, "scores": scores}
    few = {**task, "task": "mmlu_law", "items": 2, "scores": {}}
    answer = {
        "evaluation": "e2",
        "ref": "demo/a@v2",
        "suite": "demo/topics",
        "metric": "accuracy",
        "tasks": [task, few],
    }
    hub.canned[f"GET {EVALUATIONS}/e2/tasks"] = [answer] * 2

    done = run(url, *ARGUMENTS, "--summary", str(tmp_path / "summary.md"))

    assert done.exit_code == 0
    assert "    mmlu_anatomy  accuracy 0.7500 [0.4700, 0.9100], 135 items\n" in done.stdout
    assert "    mmlu_law      not shown: so few items would tell what each is worth, 2 items\n" in done.stdout
    assert "| mmlu\\_anatomy | accuracy 0.7500 \\[0.4700, 0.9100\\] | 135 |" in (tmp_path / "summary.md").read_text()
    assert json.loads(run(url, *ARGUMENTS, "--json").stdout)["tasks"] == [task, few]


def test_a_hub_that_is_away_for_a_moment_is_waited_for(hub: FakeHub, url: str) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [waiting(2)]
    hub.canned[f"GET {EVALUATIONS}/e2"] = [*[httpx2.Response(503)] * 5, evaluation(2)]

    assert run(url, *ARGUMENTS, "--wait").exit_code == 0


def test_a_moving_reference_is_evaluated_as_the_version_it_is_now(hub: FakeHub, url: str) -> None:
    hub.aliases["prod"] = 1
    hub.canned[f"GET {EVALUATIONS}/e2/comparison"] = [BETTER]

    done = run(url, "eval", "demo/a", "--suite", "demo/topics", "--no-regression-vs", "@prod")

    assert done.exit_code == 0
    assert [body["ref"] for body in asked_for(hub)] == ["demo/a@v2", "demo/a@v1"]


# -- Gates ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "compared", "status"),
    [
        (["--min", "accuracy>=0.82"], None, 0),
        (["--min", "accuracy>=0.83"], None, 1),
        (["--no-regression-vs", "@v1"], BETTER, 0),
        (["--no-regression-vs", "@v1"], UNCLEAR, 0),
        (["--no-regression-vs", "@v1", "--strict"], UNCLEAR, 2),
        (["--no-regression-vs", "@v1", "--strict", "--margin", "0.03"], UNCLEAR, 0),
        (["--no-regression-vs", "@v1"], WORSE, 1),
        (["--no-regression-vs", "demo/a@v1", "--margin", "0.1"], WORSE, 0),
        (["--no-regression-vs", "@v1", "--strict", "--min", "accuracy>=0.9"], UNCLEAR, 1),
    ],
)
def test_the_exit_status_is_the_verdict(hub: FakeHub, url: str, options: list[str], compared, status: int) -> None:
    hub.canned[f"GET {EVALUATIONS}/e2/comparison"] = [compared]

    assert run(url, *ARGUMENTS, *options).exit_code == status


def test_a_verdict_shows_both_scores_and_why(hub: FakeHub, url: str) -> None:
    hub.canned[f"GET {EVALUATIONS}/e2/comparison"] = [WORSE]

    done = run(url, *ARGUMENTS, "--no-regression-vs", "@v1")

    assert "demo/a@v1: accuracy 0.8000" in done.stdout
    assert "FAIL         no regression vs demo/a@v1: A proven regression" in done.stdout
    assert "difference -0.0500, 95% interval [-0.0800, -0.0200], p = 0.001" in done.stdout
    assert done.stdout.endswith("Verdict: fail\n")


def test_json_holds_everything_the_verdict_came_from(hub: FakeHub, url: str) -> None:
    hub.canned[f"GET {EVALUATIONS}/e2/comparison"] = [UNCLEAR]

    done = run(url, *ARGUMENTS, "--no-regression-vs", "@v1", "--strict", "--json")

    found = json.loads(done.stdout)
    assert (found["verdict"], found["exit_status"], done.exit_code) == ("inconclusive", 2, 2)
    assert (found["evaluation"]["ref"], found["incumbent"]["ref"]) == ("demo/a@v2", "demo/a@v1")
    assert found["comparison"] == UNCLEAR
    assert [gate["verdict"] for gate in found["gates"]] == ["inconclusive"]


def test_reports_for_ci_are_written(hub: FakeHub, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.canned[f"GET {EVALUATIONS}/e2/comparison"] = [WORSE]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "page.md"))

    run(
        url,
        *ARGUMENTS,
        "--no-regression-vs",
        "@v1",
        "--junit",
        str(tmp_path / "j.xml"),
        "--summary",
        str(tmp_path / "s.md"),
    )

    assert ET.parse(tmp_path / "j.xml").getroot().get("failures") == "1"
    assert "A proven regression" in (tmp_path / "s.md").read_text()
    assert "A proven regression" in (tmp_path / "page.md").read_text()


# -- What is not a verdict ------------------------------------------------------------------------


def test_a_failed_evaluation_is_not_a_failed_gate(hub: FakeHub, url: str, tmp_path: Path) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [
        evaluation(2, state="failed", score=None, interval=None, reason="Out of memory.")
    ]

    done = run(url, *ARGUMENTS, "--min", "accuracy>=0.1", "--junit", str(tmp_path / "j.xml"))

    assert done.exit_code == 3
    assert "Out of memory." in done.stderr
    assert ET.parse(tmp_path / "j.xml").getroot().get("errors") == "1"


def test_a_timeout_says_where_it_stands(hub: FakeHub, url: str) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [waiting(2, reason="no worker for this suite")]

    done = run(url, *ARGUMENTS, "--wait", "--timeout", "0")

    assert done.exit_code == 3
    assert "waiting, number 2 in the queue (no worker for this suite)" in done.stderr


def test_ctrl_c_while_it_waits_says_that_the_evaluation_goes_on(
    hub: FakeHub, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    hub.canned[f"POST {EVALUATIONS}"] = [waiting(2)]
    monkeypatch.setattr(time, "sleep", stop)

    done = run(url, *ARGUMENTS, "--wait")

    assert done.exit_code == 130
    assert done.stderr.endswith("Stopped. The evaluation goes on at the hub: the same command waits for it again.\n")


def test_a_dead_hub_is_infrastructure() -> None:
    assert run("http://127.0.0.1:9", *ARGUMENTS).exit_code == 3


def test_a_hub_that_would_evaluate_another_version_decides_nothing(hub: FakeHub, url: str) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [evaluation(2, version_digest=f"sha256:{'0' * 64}")]

    done = run(url, *ARGUMENTS, "--min", "accuracy>=0.1")

    assert done.exit_code == 3
    assert "nothing is decided" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval"],
        ["eval", "demo/a@v2"],
        [*ARGUMENTS, "--no-such-option"],
        [*ARGUMENTS, "--timeout", "soon"],
        [*ARGUMENTS, "--min", "0.8"],
        [*ARGUMENTS, "--min", "f1>=0.8"],
        [*ARGUMENTS, "--margin", "0.1"],
        [*ARGUMENTS, "--no-regression-vs", "not a ref"],
        [*ARGUMENTS, "--no-regression-vs", "@v9"],
        [*ARGUMENTS, "--promote", "prod"],
        [*ARGUMENTS, "--base", "org/model"],
        [*ARGUMENTS, "--local", "."],
        ["eval", "--local", ".", "--suite", "demo/topics", "--min", "accuracy>=0", "--promote", "prod"],
        ["eval", "--local", ".", "--suite", "demo/topics", "--no-regression-vs", "@prod"],
        ["eval", "--local", ".", "--suite", "demo/topics"],
        ["eval", "not a ref", "--suite", "demo/topics"],
        ["eval", "demo/unknown", "--suite", "demo/topics"],
    ],
    ids=" ".join,
)
def test_a_wrong_command_is_usage(hub: FakeHub, url: str, arguments: list[str]) -> None:
    done = run(url, *arguments)

    assert done.exit_code == 4
    assert "Error: " in done.stderr


LIGHT_CLIENT_ALONE = """
import sys
sys.modules |= dict.fromkeys(("starlette", "fastapi", "structlog", "torch"))  # None: not to be imported
from sdk.cli.main import main
main()
"""


def test_without_the_worker_here_eval_local_says_what_to_install(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    command = ("eval", "--local", tmp_path, "--suite", "demo/topics", "--junit", report)

    done = subprocess.run(
        [sys.executable, "-c", LIGHT_CLIENT_ALONE, *command], capture_output=True, text=True, check=False
    )

    assert done.returncode == 3
    for said in (done.stderr, report.read_text()):
        assert "the package starlette, which is not installed" in said
        assert "vera-hub[server]" in said


@pytest.mark.parametrize(("status", "code"), [(404, "SUITE_UNKNOWN"), (422, "TASK_MISMATCH"), (401, "TOKEN_MISSING")])
def test_what_the_hub_refuses_is_usage(hub: FakeHub, url: str, status: int, code: str) -> None:
    hub.canned[f"POST {EVALUATIONS}"] = [problem(status, code, "It does not fit.")]

    assert run(url, *ARGUMENTS, "--wait").exit_code == 4


@pytest.mark.parametrize(("code", "status"), [("SPEC_MISMATCH", 4), ("EVALUATION_NOT_DONE", 3)])
def test_an_incumbent_of_other_items_is_usage_and_one_that_is_not_done_is_not(
    hub: FakeHub, url: str, code: str, status: int
) -> None:
    hub.canned[f"GET {EVALUATIONS}/e2/comparison"] = [problem(409, code, "They cannot be compared.")]

    assert run(url, *ARGUMENTS, "--no-regression-vs", "@v1").exit_code == status


@pytest.mark.parametrize(("compared", "status"), [(UNCLEAR, 0), (WORSE, 1)])
def test_what_is_not_proven_moves_no_alias(hub: FakeHub, url: str, compared: dict[str, Any], status: int) -> None:
    hub.canned["GET /api/v1/adapters/demo/a/aliases"] = [{"items": [], "next": None}]
    hub.canned[f"GET {EVALUATIONS}/e2/comparison"] = [compared]

    done = run(url, *ARGUMENTS, "--no-regression-vs", "@v1", "--promote", "prod")

    assert done.exit_code == status
    assert "Alias prod stays unset" in done.stdout
    assert [request.url.path for request in hub.requests if request.method != "GET"] == [EVALUATIONS] * 2
