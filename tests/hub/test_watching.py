"""`GET /metrics`: what a monitor is told of a hub, and who else may read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from hub.access.metering import Metering
from hub.db.migrating import migrate
from hub.db.models.accounts import Account
from hub.db.models.evaluating import Evaluation, Worker
from hub.db.session import Database
from hub.errors import StartRefused
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of, start
from tests.hub.test_http import let_nobody_in

SECRET = "a-secret-of-the-monitor"
MONITOR = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def watched(settings: Settings, tmp_path: Path) -> Iterator[Hub]:
    """A hub, on either database, with a secret for its monitor."""
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    hub = start(settings.model_copy(update={"metrics_token_file": tmp_path / "secret"}))
    yield hub
    hub.database.close()


def read(hub: Hub) -> dict[str, dict[tuple[str, ...], float]]:
    """The samples by name, and by the values of their labels but for the process."""
    answer = hub.client.get("/metrics", headers=MONITOR)
    assert answer.status_code == 200, answer.text
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(value for name, value in sorted(sample.labels.items()) if name not in ("process", "le"))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def counts(hub: Hub) -> dict[tuple[str, ...], float]:
    """The requests by method, route and class of status."""
    return read(hub)["vera_hub_request_seconds_count"]


# -- Requests ---------------------------------------------------------------------------------------


def test_requests_are_counted_by_the_template_of_their_route(watched: Hub) -> None:
    watched.register_base()
    assert watched.push(make_archive(), "secret-plan", visibility="private").status_code == 201
    for path in ("/adapters/demo/secret-plan", "/adapters/demo/secret-plan/versions/v1", "/adapters/x/y"):
        watched.get(path, headers=watched.headers())

    found = counts(watched)

    assert found["GET", "/api/v1/adapters/{namespace}/{name}", "2xx"] == 1
    assert found["GET", "/api/v1/adapters/{namespace}/{name}", "4xx"] == 1
    assert found["POST", "/api/v1/adapters/{namespace}/{name}/versions", "2xx"] == 1
    assert "secret-plan" not in watched.client.get("/metrics", headers=MONITOR).text


def test_an_answer_that_is_given_again_counts_where_it_was_worked_out(watched: Hub) -> None:
    headers = watched.headers()
    for _ in range(3):
        watched.get("/adapters", headers=headers)

    assert counts(watched)["GET", "/api/v1/adapters", "2xx"] == 3


def test_an_address_of_the_other_wire_counts_where_it_leads(watched: Hub) -> None:
    watched.client.get("/api/models/demo/none/revision/refs%2Fheads%2Fmain")

    assert counts(watched) == {("GET", "/api/models/{namespace}/{name}/revision/{revision}", "4xx"): 1}


def test_an_address_that_was_made_up_and_a_method_that_was_make_no_number_of_their_own(watched: Hub) -> None:
    for number in range(5):
        watched.client.get(f"/no/such/thing/{number}")
        watched.client.request(f"WORD{number}", "/healthz")
    watched.client.get("/healthz", headers={"Host": "elsewhere.example"})

    assert counts(watched) == {("GET", "other", "4xx"): 6, ("other", "/healthz", "4xx"): 5}


def test_a_histogram_says_how_long(watched: Hub) -> None:
    watched.client.get("/healthz")

    text = watched.client.get("/metrics", headers=MONITOR).text

    of_route = [line for line in text.splitlines() if 'le="+Inf"' in line and 'route="/healthz"' in line]
    assert [line.rpartition(" ")[2] for line in of_route] == ["1.0"]


# -- The hub ----------------------------------------------------------------------------------------


def test_jobs_are_counted_by_what_becomes_of_them(watched: Hub) -> None:
    watched.register_base()
    worker = watched.worker()
    for seed in range(3):
        watched.push(make_archive(seed=seed), f"adapter-{seed}")
    with watched.database.writing() as session:
        session.execute(update(Evaluation).values(created_at=datetime.now(UTC) - timedelta(minutes=10)))
    worker.fail(worker.must_claim(), retryable=False)
    worker.must_claim()

    held = read(watched)
    watched.let_leases_run_out()
    lost = read(watched)

    assert held["vera_hub_jobs"] == {("waiting",): 1, ("running",): 1, ("failed",): 1}
    assert 600 <= held["vera_hub_oldest_waiting_job_seconds"][()] < 700
    assert lost["vera_hub_jobs"] == {("waiting",): 2, ("running",): 0, ("failed",): 1}


def test_a_worker_that_is_not_heard_of_is_silent_for_a_day(watched: Hub) -> None:
    assert read(watched)["vera_hub_workers"] == {("there",): 0, ("silent",): 0}
    watched.worker(name="one")
    assert read(watched)["vera_hub_workers"] == {("there",): 1, ("silent",): 0}
    watched.let_workers_fall_silent()
    watched.worker(name="two")
    assert read(watched)["vera_hub_workers"] == {("there",): 1, ("silent",): 1}
    with watched.database.writing() as session:
        session.execute(update(Worker).values(last_seen_at=datetime.now(UTC) - timedelta(days=2)))
    assert read(watched)["vera_hub_workers"] == {("there",): 0, ("silent",): 0}


def test_what_is_stored_is_counted(watched: Hub) -> None:
    empty = read(watched)
    watched.register_base()
    watched.push(make_archive())

    full = read(watched)

    assert (empty["vera_hub_files"][()], full["vera_hub_files"][()]) == (0, watched.contents["blobs"])
    assert full["vera_hub_database_bytes"][()] > 100_000
    assert ("vera_hub_free_bytes" in full) is watched.database.is_sqlite  # of another one this machine knows nothing
    assert full.get("vera_hub_object_bytes") == (None if watched.database.is_sqlite else {(): 0})


def test_what_takes_long_is_found_anew_after_a_while() -> None:
    now, numbers = [100.0], iter([1, 2])
    metering = Metering(lambda: now[0])

    def found() -> int:
        return metering.lately("x", lambda: next(numbers), holds_s=60)

    assert [found(), found()] == [1, 1]
    now[0] += 61
    assert found() == 2


def test_a_hub_whose_database_is_gone_says_so_to_whoever_has_the_secret(
    tmp_path: Path, postgres: Callable[[], str]
) -> None:
    url = postgres()
    with closing(Database(url)) as database:
        migrate(database)
    (tmp_path / "secret").write_text(SECRET)
    hub = start(Settings(data_dir=tmp_path, database_url=url, metrics_token_file=tmp_path / "secret"))
    with hub.client:
        before = read(hub)
        let_nobody_in(url, postgres())
        after = read(hub)
    hub.database.close()

    assert (before["vera_hub_database_up"][()], after["vera_hub_database_up"][()]) == (1, 0)
    assert "vera_hub_jobs" not in after
    assert after["vera_hub_request_seconds_count"]["GET", "/metrics", "2xx"] == 1


# -- Who may read it --------------------------------------------------------------------------------


def test_it_is_for_admins_and_whoever_has_the_secret_which_opens_nothing_else(watched: Hub) -> None:
    def asked(headers: Mapping[str, str]) -> tuple[int, str]:
        answer = watched.client.get("/metrics", headers=headers)
        return (200, "") if answer.status_code == 200 else code_of(answer)

    assert asked({}) == (401, "TOKEN_MISSING")
    assert asked({"Authorization": f"Bearer {SECRET}x"}) == (401, "TOKEN_INVALID")
    assert asked(watched.headers("ann")) == (403, "ADMIN_ONLY")
    admin = watched.headers("ada")
    with watched.database.writing() as session:
        session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))
    assert asked(admin) == asked(MONITOR) == (200, "")
    assert code_of(watched.get("/whoami", headers=MONITOR)) == (401, "TOKEN_INVALID")
    assert code_of(watched.get("/adapters", headers=MONITOR)) == (401, "TOKEN_INVALID")


def test_without_the_setting_no_secret_is_one(sqlite_hub: Hub) -> None:
    for secret in (b"None", b"", b"\xe9", SECRET.encode()):
        answer = sqlite_hub.client.get("/metrics", headers={b"Authorization": b"Bearer " + secret})
        assert code_of(answer) == (401, "TOKEN_INVALID")


def test_a_secret_that_cannot_be_read_is_said_at_the_start(embedded: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")

    for name in ("empty", "none"):
        with pytest.raises(StartRefused, match=f"VERA_HUB_METRICS_TOKEN_FILE is .*{name}, which holds no token"):
            start(embedded.model_copy(update={"metrics_token_file": tmp_path / name}))
