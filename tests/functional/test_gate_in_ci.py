"""push → evaluate → gate → promote: the steps of docs/ci, one by one, against a hub with two workers, one of them killed."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import yaml

from hub.settings import DATABASE_FILE
from sdk.client import Hub
from sdk.config import Config
from sdk.models.evaluations import Evaluation
from tests.functional.machines import COMMAND, Machine, RunningHub, environment_of, make_machine, running_hub
from tests.tiny import write_tiny_bert

CI = Path(__file__).parents[2] / "docs" / "ci"
SUITE = "demo/topics"
NAME = "demo/topics"
STEP_TIMEOUT_S = 120
ACTIONLINT = Path(COMMAND).with_name("actionlint")


class Job:
    """A job of a CI system on `machine`, whose steps run in bash as the system runs them."""

    def __init__(self, machine: Machine, hub: RunningHub, variables: Mapping[str, str]) -> None:
        token = json.loads(hub.profile.read_text())["hubs"][hub.url]["token"]
        self.outputs, self._machine = machine.folder / "outputs", machine
        self.secrets = {"secrets.VERA_HUB_TOKEN": token}
        files = {"GITHUB_OUTPUT": str(self.outputs), "GITHUB_STEP_SUMMARY": str(machine.folder / "page.md")}
        own = {"VERA_HUB_URL": hub.url, "ADAPTER": "topics", "NAME": NAME, "SUITE": SUITE}
        assert set(own) == set(variables)
        self._environment = {**environment_of(machine.folder), **files, **own, "VERA_HUB_CONFIG": "nothing-here"}
        self._environment["PATH"] = f"{Path(COMMAND).parent}:{os.environ['PATH']}"

    @contextmanager
    def step(self, script: str, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        own = {name: self._filled_in(value) for name, value in (environment or {}).items()}
        with subprocess.Popen(
            ["bash", "-eo", "pipefail", "-c", script], env={**self._environment, **own}, cwd=self._machine.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            yield process

    def run(self, script: str, environment: Mapping[str, str] | None = None) -> str:
        with self.step(script, environment) as process:
            out, err = process.communicate(timeout=STEP_TIMEOUT_S)
        assert process.returncode == 0, err
        return out

    def _filled_in(self, value: str) -> str:
        said = self.outputs.read_text() if self.outputs.exists() else ""
        known = {f"steps.push.outputs.{name}": each for name, _, each in (line.partition("=") for line in said.split())}
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: {**self.secrets, **known}[match[1]], value)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[tuple[RunningHub, Machine]]:
    """A hub, and a machine with a base and the folder `topics` of a trained adapter."""
    with running_hub(tmp_path / "lab") as hub:
        machine = make_machine(tmp_path / "lab")
        assert machine.run("base", "add", write_tiny_bert(tmp_path / "bert"), "--name", "lab/tiny-bert").status == 0
        options = ("--base", "lab/tiny-bert", "--data", SUITE, "--epochs", "1", "--rank", "8", "--no-baselines")
        trained = machine.run("train", "topics", *options)
        assert trained.status == 0, trained.err
        yield hub, machine


@contextmanager
def worker(hub: RunningHub, machine: Machine, name: str) -> Iterator[subprocess.Popen[str]]:
    options = ("worker", "--name", name, "--suite", SUITE)
    with machine.running(*options, VERA_HUB_TOKEN=hub.worker_token, VERA_HUB_URL=hub.url) as process:
        wait_until_it_says(process, "registered")
        yield process


def wait_until_it_says(worker: subprocess.Popen[str], event: str) -> None:
    assert worker.stderr is not None
    assert any(event in line for line in worker.stderr), f"it ended without {event}"


def read_again(machine: Machine) -> None:
    """Another version of `topics`, which answers as the first does."""
    card = machine.folder / "topics" / "README.md"
    card.write_text(card.read_text() + "\nRead once more.\n")


def wait_until_running(hub: RunningHub, ref: str) -> Evaluation:
    with Hub(Config.resolve({"VERA_HUB_CONFIG": str(hub.profile.parent)}, url=hub.url)) as client:
        ends_at = time.monotonic() + STEP_TIMEOUT_S
        while time.monotonic() < ends_at:
            evaluation = client.request_evaluation(ref, SUITE)
            if evaluation.state == "running":
                return evaluation
            time.sleep(0.05)
    raise AssertionError(f"still {evaluation}")


def let_leases_run_out(hub: RunningHub) -> None:
    """What a minute of silence does."""
    with closing(sqlite3.connect(hub.data / DATABASE_FILE, timeout=30)) as database, database:
        database.execute("UPDATE evaluations SET lease_expires_at = started_at WHERE state = 'running'")


def means(machine: Machine, alias: str) -> int:
    listed = json.loads(machine.run("alias", "list", NAME, "--json").out)
    return int({each["name"]: each["version"] for each in listed}[alias])


def test_the_github_workflow_promotes_what_is_not_worse_though_a_worker_is_killed(
    lab: tuple[RunningHub, Machine],
) -> None:
    hub, machine = lab
    workflow = yaml.safe_load((CI / "github.yml").read_text())
    steps = {step["name"]: step for step in workflow["jobs"]["gate"]["steps"] if "run" in step}
    job = Job(machine, hub, workflow["env"])
    with worker(hub, machine, "first") as first:
        machine.run("push", "topics", "--name", NAME)
        machine.run("alias", "set", f"{NAME}@v1", "prod")
        assert machine.run("eval", f"{NAME}@v1", "--suite", SUITE, "--wait").status == 0
        first.send_signal(signal.SIGSTOP)
        with worker(hub, machine, "second") as second:
            read_again(machine)
            assert list(steps) == ["Install", "Push", "Gate"]
            assert steps["Install"]["run"] == "pip install vera-hub"
            job.run(steps["Push"]["run"], steps["Push"]["env"])
            with job.step(steps["Gate"]["run"], steps["Gate"]["env"]) as gate:
                assert wait_until_running(hub, f"{NAME}@v2").worker == "second"
                wait_until_it_says(
                    second, "job_started"
                )  # else it may have asked for more: a second attempt of the dead one's
                second.kill()
                let_leases_run_out(hub)
                first.send_signal(signal.SIGCONT)
                out, err = gate.communicate(timeout=STEP_TIMEOUT_S)

    assert gate.returncode == 0, err
    assert "Alias prod: v1 → v2" in out
    assert means(machine, "prod") == 2
    report = json.loads(machine.run("eval", f"{NAME}@v2", "--suite", SUITE, "--json").out)["evaluation"]
    assert (report["state"], report["worker"], report["attempts"]) == ("done", "first", 2)
    assert ET.parse(machine.folder / "gate.xml").getroot().get("failures") == "0"
    assert "v1 → v2" in (machine.folder / "page.md").read_text()


def test_the_script_of_gitlab_promotes_too(lab: tuple[RunningHub, Machine]) -> None:
    hub, machine = lab
    stated: dict[str, Any] = yaml.safe_load((CI / "gitlab.yml").read_text())["adapter"]
    with worker(hub, machine, "only"):
        machine.run("push", "topics", "--name", NAME)
        machine.run("alias", "set", f"{NAME}@v1", "prod")
        read_again(machine)

        job = Job(machine, hub, stated["variables"])
        out = job.run("\n".join(stated["script"]), {"VERA_HUB_TOKEN": "${{ secrets.VERA_HUB_TOKEN }}"})

    assert "Alias prod: v1 → v2" in out
    assert means(machine, "prod") == 2
    assert {path.name for path in machine.folder.glob("gate.*")} == {"gate.xml", "gate.md"}


@pytest.mark.skipif(not ACTIONLINT.exists(), reason="actionlint is not installed")
def test_the_github_workflow_is_one() -> None:
    done = subprocess.run([ACTIONLINT, str(CI / "github.yml")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
