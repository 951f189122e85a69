"""Workers that are killed with -9 at every step of a job: each job ends once, and a result that comes late changes nothing.

VERA_HUB_KILLS=200 is the long run; one kill at each step otherwise. VERA_HUB_LEASE_S=60 is the lease of a real hub.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub.worker.keys import key_in
from hub.worker.main import Worker
from hub.worker.suite import Suite
from sdk import bases
from sdk.bases import KnownBase
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import LeaseLost
from sdk.models.evaluations import Evaluation
from sdk.models.jobs import Job
from sdk.pushing import push_archive
from tests.hub.processes import Server, serving
from tests.signing import signed
from tests.tiny_adapters import make_tiny
from tests.worker.mortal import HEARTBEAT_S, STEPS, Answering
from tests.worker.suite_files import write_suite
from vera import fingerprint
from vera.ref import AdapterRef

KILLS = int(os.environ.get("VERA_HUB_KILLS", str(len(STEPS))))
LEASE_S = int(os.environ.get("VERA_HUB_LEASE_S", "2"))
# `serve` with leases of two seconds in place of sixty: a takeover is waited for at every kill.
SERVE = (
    f"import sys, datetime; from hub.domain import jobs; jobs.LEASE = datetime.timedelta(seconds={LEASE_S}); "
    "import hub.cli as c; getattr(c, sys.argv.pop(1))(prog_name='vera-hub')"
)
TEXTS = "text,label\nthe cat sleeps,cat\na dog runs,dog\n"


@dataclass
class Field:
    """A hub in a process of its own, a user of it, and what its workers have."""

    server: Server
    user: Hub
    config: Config
    suite: Suite
    folder: Path
    base: fingerprint.BaseFingerprint

    def ask(self, number: int) -> Evaluation:
        ref = AdapterRef("demo", f"tiny-{number}")
        pushed = push_archive(self.user, make_tiny(self.base, seed=number, head=True), ref)
        return self.user.request_evaluation(pushed.version.ref, self.suite.name)

    def kill_one(self, step: str) -> Job | None:
        """Runs a worker to its death at `step`, and gives the job it had."""
        (self.folder / "claimed.json").unlink(missing_ok=True)
        process = subprocess.run(
            [sys.executable, "-m", "tests.worker.mortal", self.server.url, str(self.folder), step],
            env={**os.environ, "VERA_HUB_TOKEN": str(self.config.token)}, timeout=60, check=False, capture_output=True,
        )  # fmt: skip
        assert process.returncode == -9, process.stderr.decode()
        claimed = self.folder / "claimed.json"
        return Job.from_json(json.loads(claimed.read_text())) if claimed.exists() else None

    @contextmanager
    def survivor(self) -> Iterator[None]:
        with Hub(self.config) as hub:
            worker = Worker(
                hub, "survivor", {self.suite.name: self.suite}, runner=Answering(), heartbeat_s=HEARTBEAT_S
            )  # fmt: skip
            thread = threading.Thread(target=worker.run)
            thread.start()
            try:
                yield
            finally:
                worker.stopping.set()
                thread.join(30)
        assert not thread.is_alive()

    def wait(self, evaluation: Evaluation) -> Evaluation:
        ends_at = time.monotonic() + 60 + LEASE_S
        while not evaluation.is_over:
            assert time.monotonic() < ends_at, evaluation
            time.sleep(0.05)
            evaluation = self.user.get_evaluation(evaluation.id)
        return evaluation


@pytest.fixture
def field(tmp_path: Path, tiny_folder: Path) -> Iterator[Field]:
    with serving(tmp_path / "hub", "--user", "demo", command=[sys.executable, "-c", SERVE]) as server:
        config = Config(
            server.url, tmp_path / "config", tmp_path / "cache", (server.data / "worker-token").read_text().strip()
        )
        base = fingerprint.of_files(tiny_folder)
        bases.remember(KnownBase("tests/tiny-bert", tiny_folder, base.value), config=config)
        suite = write_suite(tmp_path, TEXTS, name="tests/animals")
        user = Config(server.url, tmp_path / "user", tmp_path / "user-cache", server.login()["token"])
        with Hub(user) as hub:
            hub.register_base("tests/tiny-bert", base.to_rows())
            with Hub(config) as worker:
                worker.register_worker("first", [suite.declaration()], key=key_in(config.folder))
            yield Field(server, hub, config, suite, tmp_path, base)


@pytest.mark.slow
@pytest.mark.timeout(60 + (60 + LEASE_S) * KILLS)
def test_a_worker_killed_at_any_step_leaves_a_job_that_ends_once(field: Field) -> None:
    waits = []
    for number in range(KILLS):
        step = STEPS[number % len(STEPS)]
        asked = field.ask(number)
        had = field.kill_one(step)
        died_at = datetime.now(UTC)
        assert (had is None) == (step == "registered")
        with field.survivor():
            done = field.wait(field.user.get_evaluation(asked.id))

        assert (done.state, done.score) == ("done", 0.5), step
        assert done.started_at is not None
        if step in ("claimed", "answering", "heartbeat", "submitting"):
            assert (done.attempts, done.worker) == (2, "survivor"), step
            waits.append((datetime.fromisoformat(done.started_at) - died_at).total_seconds())
        else:
            assert done.attempts == 1, step
        if had is not None:
            result = {"outcomes": [1, 1], "outputs": ["cat", "dog"], "environment": {}, "seconds": 1.0}
            envelope = signed(asdict(had), **result, key=key_in(field.config.folder))
            with Hub(field.config) as late, pytest.raises(LeaseLost):
                late.submit_result(had, **result, envelope=envelope)
            assert field.user.get_evaluation(asked.id) == done, step
    print(f"{KILLS} kills; taken over after {max(waits):.2f} s at most, of a lease of {LEASE_S} s")
    assert len(field.user.leaderboard(field.suite.name).rows) == KILLS
