"""The real client against the real app, in one process: both sides mean the same by docs/api.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from hub.auth.tokens import TokenKind
from hub.db.session import Database
from hub.domain import accounts
from hub.settings import Settings
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import Conflict, DigestMismatch, Forbidden, LeaseLost, NotFound, Refused, Unauthorized
from sdk.fetching import fetch
from sdk.models.evaluations import Evaluation
from sdk.models.jobs import Job
from sdk.models.versions import Said
from sdk.pushing import push_archive
from sdk.resolving import resolve
from sdk.tensor_tables import table_of
from tests.builders import BASE_NAME, LABELS, flip_byte, make_archive, make_base, make_suite, spoil
from tests.contract.replicas import Replicas, processes, replicas
from tests.hub.harness import start
from tests.hub.postgres import empty
from tests.signing import KEY, signed
from vera.manifest import WEIGHTS_FILE
from vera.ref import AdapterRef

URL = "http://127.0.0.1"
ADAPTER = AdapterRef("demo", "a")
SUITE = "demo/topics"
FIRST, SECOND = make_archive(seed=1), make_archive(seed=2)


@dataclass
class Side:
    """A hub, the connection to it, and clients for whoever asks."""

    folder: Path
    database: Database
    http: httpx2.Client

    def client(self, kind: TokenKind | None = TokenKind.PERSONAL, *, user: str = "demo") -> Hub:
        """A client with a fresh token of `user`, or without any. All of them share a cache."""
        token = None
        if kind is not None:
            with self.database.writing() as session:
                token = accounts.issue_token(session, accounts.ensure_user(session, user), kind)
        return self.client_with(token)

    def client_with(self, token: str | None) -> Hub:
        return Hub(Config(URL, self.folder / "config", self.folder / "cache", token), http=self.http)


@pytest.fixture(scope="module")
def two_hubs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with replicas(tmp_path_factory.mktemp("replicas")) as two:
        yield two


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicas]:
    with processes(tmp_path_factory.mktemp("processes")) as two:
        yield two


@pytest.fixture(params=["one hub", "two_hubs", "two_processes"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    """A hub without anything in it: this process's on SQLite, two of their own that take turns on PostgreSQL, or one of two
    processes on SQLite."""
    if request.param == "one hub":
        app = start(Settings(data_dir=tmp_path / "hub")).app
        with TestClient(app, base_url=URL) as http:
            yield Side(tmp_path, app.state.services.database, http)
        return
    two: Replicas = request.getfixturevalue(request.param)
    empty(two.database, but_for=("secrets",))
    with two.http() as http:
        yield Side(tmp_path, two.database, http)


@pytest.fixture
def hub(side: Side) -> Hub:
    hub = side.client()
    hub.register_base(BASE_NAME, make_base().to_rows(), revision="main")
    return hub


@pytest.fixture
def worker(side: Side) -> Hub:
    return side.client(TokenKind.WORKER)


# -- Service and bases ----------------------------------------------------------------------------


def test_health_and_whoami(hub: Hub, worker: Hub) -> None:
    assert hub.health().status == "ok"
    assert (hub.whoami().name, hub.whoami().kind) == ("demo", "user")
    assert worker.whoami().kind == "worker"
    assert "eval:lease" in worker.whoami().scopes


def test_a_base_is_registered_once_and_its_table_comes_back(hub: Hub, side: Side) -> None:
    base = make_base()
    again = hub.register_base(BASE_NAME, base.to_rows(), revision="main")

    assert (again.fingerprint, again.name, again.revision) == (base.value, BASE_NAME, "main")
    assert (again.dtype, again.tensor_count) == ("float32", len(base.tensors))
    assert [found.fingerprint for found in hub.list_bases()] == [base.value]
    assert list(hub.list_bases(name="no such base")) == []
    assert table_of(base.value, hub=side.client(None)) == base
    with pytest.raises(NotFound) as error:
        hub.get_base(make_base(salt="other").value)
    assert error.value.code == "BASE_UNKNOWN"


# -- Push and fetch -------------------------------------------------------------------------------


def test_what_is_pushed_is_what_anybody_fetches(hub: Hub, side: Side) -> None:
    pushed = push_archive(hub, FIRST, ADAPTER, Said(message="the first"))
    again = push_archive(hub, FIRST, ADAPTER)

    assert (pushed.is_new, again.is_new) == (True, False)
    assert pushed.version.message == "the first"
    assert again.version == pushed.version
    fetched = fetch("demo/a", hub=side.client(None))
    assert fetched.archive == FIRST
    assert fetched.version_ref == "demo/a@v1" == pushed.version.ref


def test_the_sizes_the_hub_shows_are_those_of_the_files(hub: Hub) -> None:
    version, manifest = push_archive(hub, FIRST, ADAPTER).version, FIRST.manifest

    assert version.size_bytes == FIRST.size_bytes
    assert (version.vector_bytes, version.head_bytes) == (manifest.weights.vector_bytes, manifest.weights.head_bytes)
    assert (version.lora_bytes, version.parameters) == (manifest.lora_bytes(), manifest.parameters)
    assert version.weights_digest == f"sha256:{manifest.weights.sha256}"
    assert {file.path for file in version.files} == set(FIRST.files)


def test_every_way_to_name_a_version_finds_it(hub: Hub, side: Side) -> None:
    first, second = (push_archive(hub, archive, ADAPTER).version for archive in (FIRST, SECOND))
    anyone = side.client(None)

    for version in (first, second):
        for selector in (f"v{version.version}", version.commit, version.digest):
            assert anyone.resolve_version(AdapterRef.parse(f"demo/a@{selector}")).digest == version.digest
    assert resolve("demo/a", hub=anyone).digest == second.digest
    assert resolve(f"demo/a@v1@{first.digest}", hub=anyone).resolution.version == 1
    with pytest.raises(DigestMismatch):
        anyone.resolve_version(AdapterRef.parse(f"demo/a@v1@{second.digest}"))
    with pytest.raises(NotFound):
        anyone.resolve_version(AdapterRef.parse("demo/a@v3"))


def test_adapters_are_listed_and_found(hub: Hub, side: Side) -> None:
    for name in ("a", "b", "topics"):
        push_archive(hub, FIRST, AdapterRef("demo", name))
    push_archive(hub, SECOND, ADAPTER)
    anyone = side.client(None)

    assert {adapter.id for adapter in anyone.list_adapters()} == {"demo/a", "demo/b", "demo/topics"}
    assert [adapter.id for adapter in anyone.list_adapters(search="topic")] == ["demo/topics"]
    assert [adapter.id for adapter in anyone.list_adapters(sort="name")] == ["demo/a", "demo/b", "demo/topics"]
    assert list(anyone.list_adapters(owner="nobody")) == []
    assert len(list(anyone.list_adapters(base=make_base().value))) == 3
    detail = anyone.get_adapter(ADAPTER)
    assert [version.version for version in detail.versions] == [2, 1]
    assert (detail.latest, detail.base.name, detail.task and detail.task.labels) == (2, BASE_NAME, LABELS)


def test_a_search_narrows_down_by_everything_it_is_given(hub: Hub, side: Side) -> None:
    push_archive(
        hub, make_archive(card="---\ntags: [dutch, news]\n---\n# Headlines\n", rank=4), AdapterRef("demo", "a")
    )
    push_archive(hub, SECOND, AdapterRef("demo", "b"))
    anyone = side.client(None)
    projection = anyone.resolve_version(AdapterRef("demo", "a")).manifest["projection"]["digest"]
    narrowed: dict[str, Any] = {
        "base": BASE_NAME,
        "family": "tiny",
        "owner": "demo",
        "task": "text-classification",
        "license": "apache-2.0",
        "tags": ["dutch", "news"],
    }

    (found,) = anyone.search(
        "headl", projection=projection, min_rank=4, max_rank=4, max_bytes=10**6, sort="name", **narrowed
    )

    assert (found.id, found.rank, found.tags, found.score) == ("demo/a", 4, ("dutch", "news"), None)
    assert [each.id for each in anyone.search()] == ["demo/b", "demo/a"]
    assert list(anyone.search(dataset="no such data")) == []
    facets = anyone.facets("headl", **narrowed)
    assert (facets.counted, [each.value for each in facets.tags]) == (1, ["dutch", "news"])


def test_lists_longer_than_a_page_arrive_whole(hub: Hub) -> None:
    names = [f"n{i}x{i}" for i in range(20, 75)]
    for name in names:
        push_archive(hub, FIRST, AdapterRef("demo", name))

    assert {adapter.name for adapter in hub.list_adapters()} == set(names)


def test_a_push_that_is_refused_comes_back_as_its_error(hub: Hub, side: Side) -> None:
    flipped = spoil(FIRST, WEIGHTS_FILE, flip_byte)
    elsewhere = make_archive(base=make_base(salt="other"))

    for client, ref, files, kind, code in (
        (hub, ADAPTER, flipped, Refused, "DIGEST_INVALID"),
        (hub, ADAPTER, elsewhere.files, Refused, "BASE_UNKNOWN"),
        (hub, AdapterRef("lab", "a"), FIRST.files, Forbidden, "FORBIDDEN"),
        (side.client(None), ADAPTER, FIRST.files, Unauthorized, "TOKEN_MISSING"),
        (side.client(TokenKind.WORKER), ADAPTER, FIRST.files, Forbidden, "SCOPE_INSUFFICIENT"),
    ):
        with pytest.raises(kind) as error:
            client.push_version(ref, files)
        assert error.value.code == code
        assert error.value.request_id
    assert list(hub.list_adapters()) == []


def test_a_token_the_hub_does_not_know_is_unauthorized(side: Side) -> None:
    with pytest.raises(Unauthorized, match="vera-hub login"):
        side.client_with("vhp_" + "0" * 46).whoami()


def test_a_name_that_looks_like_another_is_a_conflict(hub: Hub) -> None:
    push_archive(hub, FIRST, AdapterRef("demo", "my-adapter"))

    with pytest.raises(Conflict) as error:
        push_archive(hub, FIRST, AdapterRef("demo", "my_adapter"))

    assert error.value.code == "NAME_TOO_SIMILAR"


# -- Evaluation -----------------------------------------------------------------------------------


def evaluate(hub: Hub, worker: Hub, worker_id: str, outcomes: list[int]) -> Evaluation:
    """The next job, done with these outcomes."""
    job = worker.claim_job(worker_id, [SUITE])
    assert job is not None
    worker.heartbeat(job)
    outputs = [LABELS[outcome] for outcome in outcomes]
    result = {"outcomes": outcomes, "outputs": outputs, "environment": {"torch": "2"}, "seconds": 1.5}
    worker.submit_result(job, **result, envelope=signed(asdict(job), **result))
    (done,) = [e for e in hub.resolve_version(AdapterRef.parse(job.ref)).evaluations if e.suite == SUITE]
    return done


def test_a_version_is_evaluated_compared_and_ranked(hub: Hub, worker: Hub, side: Side) -> None:
    worker_id = worker.register_worker("w", [make_suite(SUITE, items=8)], key=KEY)
    for archive in (FIRST, SECOND):
        push_archive(hub, archive, ADAPTER)

    old = evaluate(hub, worker, worker_id, [1, 1, 1, 1, 0, 0, 0, 0])
    new = evaluate(hub, worker, worker_id, [1, 1, 1, 1, 1, 1, 0, 0])

    assert worker.claim_job(worker_id, [SUITE]) is None
    assert (old.state, old.score, new.score) == ("done", 0.5, 0.75)
    assert old.interval is not None
    assert old.interval[0] < 0.5 < old.interval[1]
    assert hub.request_evaluation("demo/a@v1", SUITE).id == old.id
    compared = side.client(None).compare_evaluations(new.id, old.id)
    assert (compared.delta, compared.only_better, compared.only_worse) == (0.25, 2, 0)
    board = side.client(None).leaderboard(SUITE)
    assert [row.ref for row in board.rows] == ["demo/a@v2", "demo/a@v1"]
    assert (board.rows[0].rank, board.rows[0].evaluation_id) == (1, new.id)


def test_suites_are_what_workers_offer(hub: Hub, worker: Hub) -> None:
    assert list(hub.list_suites()) == []
    worker.register_worker("w", [make_suite(SUITE), make_suite("demo/other", labels=("x", "y"))], key=KEY)

    assert {suite.name for suite in hub.list_suites()} == {SUITE, "demo/other"}
    assert hub.get_suite(SUITE).labels == LABELS
    assert hub.leaderboard(SUITE).rows == ()
    with pytest.raises(NotFound) as error:
        hub.get_suite("demo/unknown")
    assert error.value.code == "SUITE_UNKNOWN"
    push_archive(hub, FIRST, ADAPTER)
    with pytest.raises(Refused) as error:
        hub.request_evaluation("demo/a@v1", "demo/other")
    assert error.value.code == "TASK_MISMATCH"


def claim(worker: Hub, hub: Hub) -> Job:
    worker_id = worker.register_worker("w", [make_suite(SUITE, items=2)], key=KEY)
    push_archive(hub, FIRST, ADAPTER)
    job = worker.claim_job(worker_id, [SUITE], bases=[make_base().value])
    assert job is not None
    return job


def test_a_job_says_what_to_evaluate(hub: Hub, worker: Hub) -> None:
    job = claim(worker, hub)

    assert (job.ref, job.version_digest, job.suite) == ("demo/a@v1", FIRST.manifest.digest, SUITE)
    assert (job.base.fingerprint, job.base.name, job.base.revision) == (make_base().value, BASE_NAME, "main")
    assert fetch(f"demo/a@{job.commit}", hub=worker).archive == FIRST


def test_a_worker_is_only_given_jobs_on_bases_it_has(hub: Hub, worker: Hub) -> None:
    worker_id = worker.register_worker("w", [make_suite(SUITE, items=2)], key=KEY)
    push_archive(hub, FIRST, ADAPTER)

    assert worker.claim_job(worker_id, [SUITE], bases=[make_base(salt="other").value]) is None
    assert worker.claim_job(worker_id, [SUITE], bases=[make_base().value]) is not None


def test_a_result_with_the_wrong_fence_or_twice_is_a_lost_lease(hub: Hub, worker: Hub) -> None:
    job = claim(worker, hub)
    result = {"outcomes": [1, 0], "outputs": ["a", "b"], "environment": {}, "seconds": 0.1}
    result["envelope"] = signed(asdict(job), **result)

    with pytest.raises(LeaseLost):
        worker.submit_result(replace(job, fence=job.fence + 1), **result)
    worker.submit_result(job, **result)
    with pytest.raises(LeaseLost):
        worker.submit_result(job, **result)


def test_a_failure_without_hope_ends_the_job_with_its_reason(hub: Hub, worker: Hub) -> None:
    job = claim(worker, hub)

    worker.report_failure(job, code="BASE_MISMATCH", detail="Another base.", may_retry=False)

    (evaluation,) = hub.resolve_version(ADAPTER).evaluations
    assert evaluation.state == "failed"
    assert "Another base." in (evaluation.reason or "")


def test_a_version_that_is_not_scored_cannot_be_compared(hub: Hub, worker: Hub) -> None:
    worker.register_worker("w", [make_suite(SUITE, items=2)], key=KEY)
    push_archive(hub, FIRST, ADAPTER)
    push_archive(hub, make_archive(seed=1, card="# Other\n"), ADAPTER)
    first, second = (hub.request_evaluation(f"demo/a@v{number}", SUITE) for number in (1, 2))

    with pytest.raises(Conflict) as error:
        hub.compare_evaluations(first.id, second.id)

    assert (first.state, error.value.code) == ("waiting", "EVALUATION_NOT_DONE")
