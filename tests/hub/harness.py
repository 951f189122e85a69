"""A hub in this process, and the people and workers who use it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import FastAPI
from httpx2 import Response
from sqlalchemy import event, func, select, update
from sqlalchemy.orm import ORMExecuteState, Session
from starlette.testclient import TestClient

from hub.app import create_app
from hub.auth.tokens import TokenKind
from hub.db.folder import prepare_folder
from hub.db.migrating import migrate
from hub.db.models.accounts import Token
from hub.db.models.adapters import Adapter
from hub.db.models.evaluating import Evaluation
from hub.db.models.evaluating import Worker as RegisteredWorker
from hub.db.models.objects import Blob
from hub.db.models.versions import Version
from hub.db.session import Database
from hub.domain import accounts
from hub.settings import DATABASE_FILE, Settings
from tests.builders import BASE_NAME, make_base, make_suite
from tests.signing import shown, signed
from vera.archive import Archive
from vera.fingerprint import BaseFingerprint

URL = "http://127.0.0.1:8000"


@dataclass
class Hub:
    """A running hub. `client` sends no token; `headers` gives those of a user."""

    app: FastAPI
    client: TestClient

    @property
    def database(self) -> Database:
        return self.app.state.services.database

    def token(self, user: str = "demo", kind: TokenKind = TokenKind.PERSONAL) -> str:
        with self.database.writing() as session:
            return accounts.issue_token(session, accounts.ensure_user(session, user), kind)

    def headers(self, user: str = "demo", kind: TokenKind = TokenKind.PERSONAL) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(user, kind)}"}

    def get(self, path: str, **options: Any) -> Response:
        return self.client.get(f"/api/v1{path}", **options)

    def post(self, path: str, body: object, headers: Mapping[str, str]) -> Response:
        return self.client.post(f"/api/v1{path}", json=body, headers=headers)

    def put(self, path: str, body: object, headers: Mapping[str, str]) -> Response:
        return self.client.put(f"/api/v1{path}", json=body, headers=headers)

    def delete(self, path: str, headers: Mapping[str, str]) -> Response:
        return self.client.delete(f"/api/v1{path}", headers=headers)

    def register_base(self, base: BaseFingerprint | None = None, name: str = BASE_NAME) -> str:
        """Registers the base (that of the builders) and gives its fingerprint."""
        body = {"name": name, "revision": None, "tensors": (base or make_base()).to_rows()}
        answer = self.post("/bases", body, self.headers())
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["fingerprint"])

    def push(
        self,
        files: Archive | Mapping[str, bytes],
        name: str = "tiny",
        *,
        user: str = "demo",
        headers: Mapping[str, str] | None = None,
        message: str | None = None,
        visibility: str | None = None,
        **said: str,
    ) -> Response:
        """Pushes to user/name, as that user unless `headers` says otherwise. `said` are further parts."""
        fields = {"message": message, "visibility": visibility, **said}
        files = files.files if isinstance(files, Archive) else files
        parts = [(path, (path, data)) for path, data in files.items()]
        return self.client.post(
            f"/api/v1/adapters/{user}/{name}/versions",
            files=parts,
            data={name: value for name, value in fields.items() if value is not None},
            headers=self.headers(user) if headers is None else headers,
        )

    def found(self, organisation: str = "acme", **members: str) -> None:
        """An organisation of olga's, with these others: `found(rita="reader")`."""
        olga = self.headers("olga")
        assert self.post("/orgs", {"name": organisation}, olga).status_code == 201
        for user, role in members.items():
            theirs, invitation = self.headers(user), {"user": user, "role": role}
            assert self.post(f"/orgs/{organisation}/invitations", invitation, olga).status_code == 201
            assert self.post(f"/invitations/{organisation}/accept", {}, theirs).status_code == 200

    def worker(
        self,
        *suites: Mapping[str, object],
        name: str = "w",
        memory_bytes: int | None = None,
        lacks: Mapping[str, Mapping[str, str]] | None = None,
    ) -> Worker:
        """A registered worker that knows these suites (`demo/topics` when none is given)."""
        headers, known = self.headers("worker-host", TokenKind.WORKER), suites or (make_suite(),)
        answer = self.post(
            "/worker/register",
            {
                "name": name,
                "suites": known,
                "memory_bytes": memory_bytes,
                "lacks": lacks,
                **shown(name, headers["Authorization"]),
            },
            headers,
        )
        assert answer.status_code == 200, answer.text
        measured = {str(suite["name"]): str(suite["metric"]) for suite in known}
        return Worker(self, headers, answer.json()["worker_id"], measured)

    def let_leases_run_out(self) -> None:
        """What a minute of silence does."""
        past = datetime.now(UTC) - timedelta(seconds=1)
        with self.database.writing() as session:
            session.execute(update(Evaluation).where(Evaluation.state == "running").values(lease_expires_at=past))

    def let_workers_fall_silent(self) -> None:
        """As if none had been heard of for a while."""
        with self.database.writing() as session:
            session.execute(update(RegisteredWorker).values(last_seen_at=datetime.now(UTC) - timedelta(minutes=5)))

    def change_tokens(self, **values: object) -> None:
        with self.database.writing() as session:
            session.execute(update(Token).values(**values))

    @property
    def contents(self) -> dict[str, int]:
        """How many rows there are of what a push makes."""
        with self.database.reading() as session:
            return {
                table.__tablename__: session.scalar(select(func.count()).select_from(table)) or 0
                for table in (Adapter, Version, Blob, Evaluation)
            }


@dataclass
class Worker:
    """A worker as the hub sees it: what it sends."""

    hub: Hub
    headers: Mapping[str, str]
    id: str
    suites: Mapping[str, str]  # with the metric of each

    def claim(self, bases: Sequence[str] | None = None) -> dict[str, Any] | None:
        body = {"worker_id": self.id, "suites": list(self.suites), "bases": bases}
        answer = self.hub.post("/worker/claims", body, self.headers)
        assert answer.status_code in (200, 204), answer.text
        return answer.json() if answer.status_code == 200 else None

    def must_claim(self) -> dict[str, Any]:
        job = self.claim()
        assert job is not None
        return job

    def heartbeat(self, job: Mapping[str, Any], **facts: object) -> Response:
        return self._report(job, "heartbeat", **facts)

    def finish(
        self, job: Mapping[str, Any], outcomes: Sequence[object] = (1, 1, 1, 1, 0, 0, 0, 0), **also: object
    ) -> Response:
        outputs = ["a" if outcome else "b" for outcome in outcomes]
        result = {
            "outcomes": list(outcomes),
            "outputs": outputs,
            "environment": {"device": "cpu"},
            "seconds": 0.5,
            **({} if "envelope" in also else {"salt": "ab" * 32}),
            **also,
        }
        if "envelope" not in result:
            result["envelope"] = signed(job, metric=self.suites[job["suite"]], **result)
        return self._report(job, "result", **result)

    def fail(
        self,
        job: Mapping[str, Any],
        *,
        retryable: bool,
        code: str = "BASE_UNAVAILABLE",
        detail: str = "No such base here.",
    ) -> Response:
        return self._report(job, "failure", code=code, detail=detail, retryable=retryable)

    def _report(self, job: Mapping[str, Any], what: str, **facts: object) -> Response:
        return self.hub.post(f"/worker/jobs/{job['id']}/{what}", {"fence": job["fence"], **facts}, self.headers)


@cache
def migrated_database() -> bytes:
    """A SQLite database of the present schema, to be copied: migrating takes ten times as long."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / DATABASE_FILE
        database = Database(f"sqlite:///{file}")
        migrate(database)
        database.close()  # the last connection out writes the log into the file
        return file.read_bytes()


def start(settings: Settings) -> Hub:
    """A hub of these settings, which finds its schema there. Its database is closed by the caller."""
    if settings.is_embedded and not (settings.data_dir / DATABASE_FILE).exists():
        prepare_folder(settings.data_dir)
        (settings.data_dir / DATABASE_FILE).write_bytes(migrated_database())
    app = create_app(settings)
    return Hub(app, TestClient(app, base_url=URL))


def code_of(answer: Response) -> tuple[int, str]:
    """Status and code of a refusal, which is a whole problem document."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "code", "detail", "request_id", "retryable", "facts"}
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    return answer.status_code, problem["code"]


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def statements_given_to(database: Database) -> Iterator[list[ORMExecuteState]]:
    """What sessions of the database execute until the block ends. The app that tests share looks into its own meanwhile,
    every second."""
    given: list[ORMExecuteState] = []

    def note(state: ORMExecuteState) -> None:
        if state.session.get_bind().engine.url == database.engine.url:
            given.append(state)

    event.listen(Session, "do_orm_execute", note)
    try:
        yield given
    finally:
        event.remove(Session, "do_orm_execute", note)
