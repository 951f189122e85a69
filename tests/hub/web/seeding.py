"""A hub with something to show, filled the way it is filled in life: over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from hub.auth.tokens import TokenKind
from hub.domain import accounts
from hub.settings import Settings
from tests.builders import BASE_NAME, make_archive, make_base, make_suite
from tests.hub.harness import start
from tests.signing import shown, signed
from vera.archive import Archive
from vera.fingerprint import BaseFingerprint

SUITE = "demo/topics"
ORIGIN = "http://127.0.0.1"
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

# What a card could try. None of it may run, load, call out or leave the card.
HOSTILE_CARD = """# A card
<script>window.ran = "script"</script>
<img src="x" onerror="window.ran = 'onerror'">
<svg onload="window.ran = 'svg'"><a xlink:href="javascript:window.ran='xlink'">x</a></svg>
<iframe srcdoc="<script>parent.ran = 'iframe'</script>"></iframe>
<style>h1 { display: none }</style><form action="https://evil.test/"><button>ok</button></form>
<math><mtext><table><mglyph><style><img src=x onerror="window.ran='mxss'">
[link](javascript:window.ran='markdown') [other](data:text/html,<script>window.ran='data'</script>)
![beacon](https://evil.test/beacon.png)
[fine](https://example.org/ "onmouseover=window.ran='title'")
"""

TRAINING = {"epochs": 3, "data": {"split": "by <hash>"}, "self_reported": {"head_only": {"accuracy": 0.5}}}


@dataclass(frozen=True)
class SeededHub:
    """A hub in this process and the two tokens that its visitors do not have."""

    app: FastAPI
    client: TestClient
    user: Mapping[str, str]
    worker: Mapping[str, str]
    base: BaseFingerprint = field(default_factory=make_base)

    def get(self, path: str) -> str:
        """The page at `path`, as a browser gets it."""
        answer = self.client.get(path, headers=BROWSER)
        assert answer.status_code == 200, f"{path}: {answer.status_code}\n{answer.text}"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        return answer.text

    def register_base(self, base: BaseFingerprint | None = None, name: str = BASE_NAME) -> None:
        body = {"name": name, "revision": None, "tensors": (base or self.base).to_rows()}
        answer = self.client.post("/api/v1/bases", json=body, headers=self.user)
        assert answer.status_code == 201, answer.text

    def push(self, name: str, archive: Archive, message: str | None = None) -> None:
        files = [(path, (path, data)) for path, data in archive.files.items()]
        answer = self.client.post(
            f"/api/v1/adapters/demo/{name}/versions",
            files=files,
            data={"message": message} if message else {},
            headers=self.user,
        )
        assert answer.status_code == 201, answer.text

    def register_suite(self, name: str = SUITE, **changes: object) -> str:
        """Brings a suite as a worker does. Answers the worker's id."""
        key = shown("bench", self.worker["Authorization"])
        body = {"name": "bench", "suites": [{**make_suite(name), **changes}], **key}
        answer = self.client.post("/api/v1/worker/register", json=body, headers=self.worker)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["worker_id"])

    def claim(self, worker_id: str) -> dict[str, object]:
        body = {"worker_id": worker_id, "suites": [SUITE]}
        answer = self.client.post("/api/v1/worker/claims", json=body, headers=self.worker)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def score(self, worker_id: str, outcomes: list[int]) -> None:
        """Takes the next job and hands in `outcomes`."""
        job = self.claim(worker_id)
        result = {"outcomes": outcomes, "outputs": ["a"] * len(outcomes), "environment": {}, "seconds": 1.5}
        body = {"fence": job["fence"], **result, "envelope": signed(job, **result)}
        answer = self.client.post(f"/api/v1/worker/jobs/{job['id']}/result", json=body, headers=self.worker)
        assert answer.status_code == 204, answer.text

    def fail(self, worker_id: str, detail: str) -> None:
        """Takes the next job and gives it up for good."""
        job = self.claim(worker_id)
        body = {"fence": job["fence"], "code": "ADAPTER_BROKEN", "detail": detail, "retryable": False}
        answer = self.client.post(f"/api/v1/worker/jobs/{job['id']}/failure", json=body, headers=self.worker)
        assert answer.status_code == 204, answer.text


@contextmanager
def empty_hub(folder: Path) -> Iterator[SeededHub]:
    """A hub that nobody has pushed to."""
    app = start(Settings(data_dir=folder, webhook_allow_loopback=True)).app
    with TestClient(app, base_url=ORIGIN, raise_server_exceptions=False) as client:
        with app.state.services.database.writing() as session:
            account = accounts.ensure_user(session, "demo")
            user, worker = (
                {"Authorization": f"Bearer {accounts.issue_token(session, account, kind)}"}
                for kind in (TokenKind.PERSONAL, TokenKind.WORKER)
            )
        yield SeededHub(app, client, user, worker)


def fill(hub: SeededHub) -> None:
    """Two scored versions, and one evaluation in each of the other states:

    demo/topics v1 (6 of 8 right) and v2 (7 of 8: tied), demo/weak (0 of 8), demo/broken (failed),
    demo/busy (running), demo/patient (waiting), demo/plain (no task, nothing to score it).
    """
    hub.register_base()
    worker = hub.register_suite(title="Which <topic> is it?")
    hub.push("topics", make_archive(seed=1, training=TRAINING))
    hub.score(worker, [1, 1, 1, 1, 1, 1, 0, 0])
    hub.push("topics", make_archive(seed=2, card=HOSTILE_CARD), message="twice the <b>epochs</b>")
    hub.score(worker, [1, 1, 1, 1, 1, 1, 1, 0])
    hub.push("weak", make_archive(seed=3, rank=4))
    hub.score(worker, [0, 0, 0, 0, 0, 0, 0, 0])
    hub.push("broken", make_archive(seed=4))
    hub.fail(worker, "its <head> is of another size")
    hub.push("busy", make_archive(seed=5))
    hub.claim(worker)
    hub.push("patient", make_archive(seed=6))
    hub.push("plain", make_archive(seed=7, labels=()))
