"""A hub in this process, a user, and a worker that has the tiny base."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from starlette.testclient import TestClient

from hub.auth.tokens import TokenKind
from hub.domain import accounts
from hub.settings import Settings
from hub.worker.main import Worker
from hub.worker.runner import Runner
from hub.worker.suite import Suite
from sdk import bases
from sdk.bases import KnownBase
from sdk.client import Hub
from sdk.config import Config
from sdk.models.evaluations import Evaluation
from sdk.pushing import push_archive
from tests.hub.harness import Hub as HubInProcess
from tests.hub.harness import start
from tests.tiny_adapters import make_tiny
from tests.worker.suite_files import write_suite
from vera import fingerprint
from vera.ref import AdapterRef

URL = "http://127.0.0.1:8000"
NAME = "tests/animals"
LABELS = ("cat", "dog")
# How often is asked what has become of a job. A process that asks takes the cores of the child that is waited for.
ASK_EVERY_S = 0.2
TEXTS = ["the cat sleeps", "a dog runs", "old blue bird", "near the fish"]


def animals(folder: Path) -> Suite:
    """A suite of four texts, three of them about cats, as a user writes it."""
    rows = "".join(f"{text},{label}\n" for text, label in zip(TEXTS, ("cat", "cat", "cat", "dog"), strict=True))
    return write_suite(folder, f"text,label\n{rows}", name=NAME, task="text-classification", batch_size=2)


class Lab:
    """A hub, a user, and a worker that has the tiny base."""

    def __init__(self, folder: Path, base_folder: Path) -> None:
        self._folder = folder
        app = start(Settings(data_dir=folder / "hub")).app
        self.http = TestClient(app, base_url=URL)
        self.hub = HubInProcess(app, self.http)
        self.base = fingerprint.of_files(base_folder)
        self.user = self._client(TokenKind.PERSONAL)
        self.user.register_base("tests/tiny-bert", self.base.to_rows())
        client = self._client(TokenKind.WORKER)
        bases.remember(KnownBase("tests/tiny-bert", base_folder, self.base.value), config=client.config)
        self.worker = Worker(client, "w", {NAME: animals(folder)}, heartbeat_s=ASK_EVERY_S)
        self._thread = threading.Thread(target=self.worker.run)

    def start_worker(self) -> None:
        self._thread.start()

    def stop_worker(self) -> None:
        self.worker.stopping.set()
        if self._thread.is_alive():
            self._thread.join(30)
        assert not self._thread.is_alive()

    def ask(self, name: str = "tiny", seed: int = 0, *, suite: str = NAME) -> str:
        """Pushes an adapter and asks for its evaluation; the id."""
        ref = AdapterRef("demo", name)
        pushed = push_archive(self.user, make_tiny(self.base, seed=seed, head=True), ref)
        return self.user.request_evaluation(pushed.version.ref, suite).id

    def wait(self, evaluation_id: str, holds: Callable[[Evaluation], bool]) -> Evaluation:
        ends_at = time.monotonic() + 120
        while time.monotonic() < ends_at:
            evaluation = self.user.get_evaluation(evaluation_id)
            if holds(evaluation):
                return evaluation
            time.sleep(ASK_EVERY_S)
        raise AssertionError(f"still {evaluation}")

    def wait_for_child(self) -> int:
        assert isinstance(self.worker.runner, Runner)
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            if child := self.worker.runner._child:
                return child.pid
            time.sleep(0.005)
        raise AssertionError("no child was started")

    def _client(self, kind: TokenKind) -> Hub:
        with self.hub.database.writing() as session:
            token = accounts.issue_token(session, accounts.ensure_user(session, "demo"), kind)
        return Hub(Config(URL, self._folder / "config", self._folder / f"cache-{kind.name}", token), http=self.http)


def is_over(evaluation: Evaluation) -> bool:
    return evaluation.state in ("done", "failed")
