"""Hubs to test: each on its own database, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest

from hub.app import open_services
from hub.db.migrating import migrate
from hub.db.session import Database
from hub.settings import DATABASE_FILE, Settings
from tests.hub.harness import Hub, migrated_database, start
from tests.hub.postgres import Create, empty, postgres_server

# How many hubs stand on one database and take turns, so that no request meets what the one before it left in memory:
# two for what is most about that, and for everything with VERA_TEST_REPLICAS=2.
REPLICAS = int(os.environ.get("VERA_TEST_REPLICAS", "1"))
TAKING_TURNS = frozenset({"test_aliases", "test_finding", "test_http", "test_once", "test_push", "test_withdrawing"})


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a migrated database, to be copied."""
    file = tmp_path_factory.mktemp("template") / DATABASE_FILE
    file.write_bytes(migrated_database())
    return file


@pytest.fixture(scope="session")
def postgres() -> Iterator[Create]:
    """Makes a new database on a real PostgreSQL, and gives its URL."""
    with postgres_server() as create:
        yield create


@pytest.fixture(scope="session")
def postgres_template(postgres: Create) -> str:
    """The URL of a PostgreSQL database of the present schema, to be copied: migrating takes ten times as long."""
    database = Database(postgres())
    migrate(database)
    database.close()
    return database.engine.url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Create, postgres_template: str) -> Iterator[Database]:
    """One PostgreSQL database of the present schema for many tests."""
    database = Database(postgres(postgres_template))
    yield database
    database.close()


@pytest.fixture
def clean_postgres(migrated_postgres: Database) -> str:
    """The URL of a PostgreSQL database of the present schema with nothing in it."""
    empty(migrated_postgres)
    return migrated_postgres.engine.url.render_as_string(hide_password=False)


@pytest.fixture
def embedded(tmp_path: Path, migrated_file: Path) -> Settings:
    """The settings of an embedded hub whose database is migrated."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    shutil.copy(migrated_file, folder / DATABASE_FILE)
    return Settings(data_dir=folder)


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """The settings of a hub, once on each database."""
    if request.param == "sqlite":
        embedded: Settings = request.getfixturevalue("embedded")
        return embedded
    url: str = request.getfixturevalue("clean_postgres")
    objects = tmp_path / "objects"
    objects.mkdir()
    return Settings(data_dir=tmp_path / "data", database_url=url, blob_url=objects.as_uri())


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One app and one event loop for many tests, each of which gives it its own database: building the
    routes takes longer than most tests."""
    hub = start(Settings(data_dir=tmp_path_factory.mktemp("app")))
    with hub.client:
        yield hub


@pytest.fixture
def hub(request: pytest.FixtureRequest, running: Hub, settings: Settings) -> Iterator[Hub]:
    """A hub without anything in it, once on each database. On PostgreSQL, large blobs are objects."""
    is_one = request.node.get_closest_marker("one_process") is not None
    several = max(REPLICAS, 2) if request.path.stem in TAKING_TURNS else REPLICAS
    yield from _run(running, settings, replicas=1 if is_one else several)


@pytest.fixture
def sqlite_hub(running: Hub, embedded: Settings) -> Iterator[Hub]:
    """A hub without anything in it, for what does not depend on the database."""
    yield from _run(running, embedded)


def _run(running: Hub, settings: Settings, *, replicas: int = 1) -> Iterator[Hub]:
    opened = [open_services(settings) for _ in range(replicas)]
    turns = cycle(opened)

    def next_one(_: object) -> None:
        running.app.state.services = next(turns)

    next_one(None)
    running.client.event_hooks = {"request": [next_one] if replicas > 1 else [], "response": []}
    yield running
    for each in opened:
        each.database.close()
