"""The schema: made by the migrations, the same as the models, and never half of one."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from sqlalchemy import Column, MetaData
from sqlalchemy.exc import IntegrityError

from hub import cli
from hub.app import create_app
from hub.cli.admin import admin
from hub.db.migrating import REVISION, migrate, migrations_folder, require_current, revision_of
from hub.db.models.table import Table
from hub.db.session import Database
from hub.errors import StartRefused
from hub.settings import Settings
from tests.hub.processes import run, serving


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database with nothing in it."""
    if request.param == "sqlite":
        database = Database(f"sqlite:///{tmp_path}/hub.db")
    else:
        create: Callable[[], str] = request.getfixturevalue("postgres")
        database = Database(create())
    yield database
    database.close()


def test_the_newest_migration_is_the_one_this_release_needs() -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))

    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_the_migrations_make_what_the_models_say(empty: Database) -> None:
    migrate(empty)

    with empty.engine.connect() as connection:
        opts = {"compare_type": True, "include_object": _has_a_model}
        context = MigrationContext.configure(connection, opts=opts)
        assert compare_metadata(context, Table.metadata) == []


def _has_a_model(_: object, name: str | None, *__: object) -> bool:
    """Full text has no type that both databases know, so its table is written by hand."""
    return "listing_words" not in (name or "")


def test_migrating_twice_is_migrating_once(empty: Database) -> None:
    assert revision_of(empty) is None
    migrate(empty)
    migrate(empty)

    require_current(empty)


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty: Database) -> None:
    with empty.engine.execution_options(writes=True).begin() as connection:
        connection.exec_driver_sql("CREATE TABLE workers (id INTEGER)")  # in the way of the migration

    with pytest.raises(Exception, match="workers"):
        migrate(empty)

    with empty.engine.connect() as connection:
        assert MigrationContext.configure(connection).get_current_revision() is None
        assert empty.engine.dialect.get_table_names(connection) == ["workers"]


def test_what_the_first_release_kept_is_there_after_migrating(empty: Database) -> None:
    """Tokens above all: SQLite makes a new table of them, and workers refer to the old one."""
    _make(empty, "0001")
    with empty.engine.execution_options(writes=True).begin() as connection:
        for row in (
            "accounts (id, name, kind, created_at) VALUES (7, 'ann', 'user', '2026-01-01')",
            "tokens (id, account_id, kind, hash, last4, scopes, created_at, expires_at)"
            " VALUES (8, 7, 'w', 'h', 'abcd', '[]', '2026-01-01', '2027-01-01')",
            "workers (id, token_id, name, created_at, last_seen_at, suite_ids)"
            " VALUES (9, 8, 'w', '2026-01-01', '2026-01-01', '[]')",
        ):
            connection.exec_driver_sql(f"INSERT INTO {row}")

    migrate(empty)

    with empty.engine.execution_options(writes=True).begin() as connection:
        joined = "SELECT w.id, t.last4, t.name, a.is_admin FROM workers w JOIN tokens t ON t.id = token_id JOIN accounts a ON a.id = account_id"
        assert connection.exec_driver_sql(joined).one() == (9, "abcd", None, False)
        connection.exec_driver_sql("UPDATE tokens SET kind = 'c'")  # which the first release did not know
        with pytest.raises(IntegrityError):  # who is referred to is still held
            connection.exec_driver_sql("DELETE FROM tokens")


def test_versions_there_are_have_the_method_of_their_manifests_after_migrating(empty: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    manifests = {1: b'{"method":"dvora"}', 2: b'{"method":"vera"}', 3: None}
    with empty.engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0019")
        tables = MetaData()
        tables.reflect(connection)

        def put(table: str, **values: object) -> None:
            """A row with these values, and for the rest whatever is allowed."""
            columns = tables.tables[table].columns
            needed = [each for each in columns if not each.nullable and each.server_default is None]
            filled = {each.name: _any_of(each) for each in needed if each.name not in values}
            connection.execute(tables.tables[table].insert().values(**filled, **values))

        put("accounts", id=1, name="ann", kind="user")
        put("bases", id=1, fingerprint="vbf1:1")
        put("adapters", id=1, account_id=1, base_id=1, name="a")
        for number, data in manifests.items():
            sha256 = f"{number:064}"
            put("blobs", sha256=sha256, size_bytes=len(data or b"??"), data=data)
            pins = {"digest": f"sha256:{sha256}", "commit": f"{number:040}", "number": number}
            put("versions", id=number, adapter_id=1, base_id=1, created_by_id=1, **pins)
            put("version_files", version_id=number, path="vera.json", sha256=sha256)

    migrate(empty)

    with empty.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT method FROM versions ORDER BY id").scalars().all()
    assert rows == ["dvora", "vera", None]


def _any_of(column: Column[Any]) -> object:
    kind = column.type.python_type
    return datetime(2026, 1, 1, tzinfo=UTC) if kind is datetime else "[]" if kind is str else kind()


def test_a_database_of_a_later_release_is_refused(embedded: Settings) -> None:
    connection = sqlite3.connect(embedded.data_dir / "hub.db")
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    with pytest.raises(StartRefused) as refused:
        create_app(embedded)
    assert (refused.value.code, refused.value.exit_code) == ("SCHEMA_MISMATCH", 3)
    assert "restore a backup from before the upgrade" in str(refused.value)
    assert "vera-hub migrate" not in str(refused.value)
    assert not copies_in(embedded.data_dir)


# -- The copy before an upgrade ---------------------------------------------------------------------


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Database]:
    """A database of an earlier release, in use by nobody."""
    database = Database(f"sqlite:///{tmp_path}/hub.db")
    _make(database, "0027")
    _add_account(database, "ann")
    yield database
    database.close()


def copies_in(folder: Path) -> list[str]:
    """Whatever is in the folder beside the database."""
    return sorted(file.name for file in folder.iterdir() if not file.name.startswith(("hub.db", "hub.l", "objects")))


def _add_account(database: Database, name: str) -> None:
    with database.engine.execution_options(writes=True).begin() as connection:
        row = f"(name, kind, created_at) VALUES ('{name}', 'user', '2026-01-01')"
        connection.exec_driver_sql(f"INSERT INTO accounts {row}")


def _state_of(file: Path) -> tuple[str, list[str]]:
    """The schema of a database and who is in it."""
    with closing(sqlite3.connect(file)) as connection:
        names = connection.execute("SELECT name FROM accounts ORDER BY id").fetchall()
        return connection.execute("SELECT version_num FROM alembic_version").fetchone()[0], [name for (name,) in names]


def test_an_sqlite_database_is_copied_beside_itself_before_it_is_migrated(
    old: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[str] = []

    with caplog.at_level("INFO", "hub.db.migrating"):
        migrate(old, say=said.append)

    kept = tmp_path / "hub-schema-0027.db"
    assert copies_in(tmp_path) == [kept.name]
    assert _state_of(kept) == ("0027", ["ann"])
    assert kept.stat().st_mode & 0o777 == 0o600
    assert [str(kept) in line for line in said] == [True]
    assert [each.copy for each in caplog.records] == [str(kept)]  # type: ignore[attr-defined]  # as extra


def test_one_goes_back_with_the_copy_and_the_next_upgrade_keeps_what_was_done_since(
    old: Database, tmp_path: Path
) -> None:
    migrate(old)
    old.close()
    shutil.copyfile(tmp_path / "hub-schema-0027.db", tmp_path / "hub.db")
    again = Database(f"sqlite:///{tmp_path}/hub.db")
    _add_account(again, "bob")

    migrate(again)

    again.close()
    assert _state_of(tmp_path / "hub.db") == (REVISION, ["ann", "bob"])
    assert copies_in(tmp_path) == ["hub-schema-0027.db"]
    assert _state_of(tmp_path / "hub-schema-0027.db") == ("0027", ["ann", "bob"])


def test_nothing_is_copied_where_there_is_nothing_to_lose(tmp_path: Path, empty: Database) -> None:
    migrate(empty)
    migrate(empty)

    assert copies_in(tmp_path) == []


def test_a_shared_database_is_copied_by_its_own_tools(tmp_path: Path, postgres: Callable[[], str]) -> None:
    database = Database(postgres())
    _make(database, "0027")

    migrate(database)

    assert revision_of(database) == REVISION
    assert copies_in(tmp_path) == []
    database.close()


def test_without_room_for_the_copy_nothing_is_migrated_unless_that_is_asked_for(
    old: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=4096))

    refused = CliRunner().invoke(cli.migrate, ["--data", str(tmp_path)])
    assert (refused.exit_code, revision_of(old), copies_in(tmp_path)) == (7, "0027", [])
    assert re.search(r"takes [\d,]+ bytes and 4,096 are free\. Make room .* --no-copy", refused.output)

    done = CliRunner().invoke(cli.migrate, ["--data", str(tmp_path), "--no-copy"])
    assert (done.exit_code, revision_of(old), copies_in(tmp_path)) == (0, REVISION, [])


def test_a_copy_that_cannot_be_finished_leaves_nothing_and_nothing_is_migrated(old: Database, tmp_path: Path) -> None:
    (tmp_path / "hub-schema-0027.db").mkdir()  # in the way of its name

    with pytest.raises(StartRefused, match="Is a directory"):
        migrate(old)

    assert revision_of(old) == "0027"
    assert copies_in(tmp_path) == ["hub-schema-0027.db"]


def test_a_disk_that_is_full_in_the_midst_of_migrating_is_said_and_nothing_was_changed(
    old: Database, tmp_path: Path
) -> None:
    old.close()
    size = (tmp_path / "hub.db").stat().st_size
    full = Database(f"sqlite:///{tmp_path}/hub.db", max_bytes=size)

    with pytest.raises(
        StartRefused, match=f"was not brought to the schema {REVISION}, and is as it was: .* full"
    ) as no:
        migrate(full)

    assert no.value.exit_code == 6
    assert revision_of(full) == "0027"
    assert _state_of(tmp_path / "hub-schema-0027.db") == ("0027", ["ann"])
    full.close()


def test_a_database_that_cannot_be_read_is_said_with_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub.db").write_bytes(b"no database at all, and longer than the header of one" * 20)
    damaged = run(tmp_path, "serve", "--data", str(tmp_path), "--no-worker")
    assert damaged.returncode == 6
    assert re.search(r"hub\.db cannot be read: file is not a database\. .* restore a backup", damaged.stderr)

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    full = CliRunner().invoke(admin, ["gc", "--data", str(tmp_path)])
    assert (full.exit_code, "Its disk is full" in full.output) == (6, True)


def test_several_that_migrate_at_once_keep_one_copy_of_what_was_there(old: Database, tmp_path: Path) -> None:
    others = [Database(f"sqlite:///{tmp_path}/hub.db") for _ in range(3)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [old, *others]))

    assert revision_of(old) == REVISION
    assert copies_in(tmp_path) == ["hub-schema-0027.db"]
    assert _state_of(tmp_path / "hub-schema-0027.db") == ("0027", ["ann"])
    for each in others:
        each.close()


def test_who_starts_a_later_release_is_told_of_the_copy(old: Database, tmp_path: Path) -> None:
    old.close()
    (tmp_path / "home").mkdir()

    with serving(tmp_path / "home", "--data", str(tmp_path)) as server:
        server.stop()
        assert server.process.stderr is not None
        said = server.process.stderr.read()

    assert re.search(r"has the schema 0027 and is copied to \S+/hub-schema-0027\.db before", said)
    assert _state_of(tmp_path / "hub-schema-0027.db") == ("0027", ["ann"])


def test_who_is_to_migrate_hears_that_there_is_no_way_back(empty: Database, caplog: pytest.LogCaptureFixture) -> None:
    _make(empty, "0011")

    with pytest.raises(StartRefused, match=r"schema 0011 .* make a backup, .* `vera-hub migrate`"):
        require_current(empty)
    with caplog.at_level("INFO", "hub.db.migrating"):
        migrate(empty)
    last = caplog.records[-1]
    assert (last.before, last.now) == ("0011", REVISION)  # type: ignore[attr-defined]  # as extra


def test_a_server_of_databases_that_is_not_there_is_said_to_be_with_what_was_said(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql://hub:secret@127.0.0.1:9/hub")

    with pytest.raises(StartRefused) as refused:
        create_app(settings)
    assert (refused.value.code, refused.value.exit_code) == ("DB_UNAVAILABLE", 6)
    assert all(part in str(refused.value) for part in ("127.0.0.1:9/hub", "refused", "VERA_HUB_DATABASE_URL"))
    assert "secret" not in str(refused.value)


def test_a_shared_database_is_not_migrated_by_the_server(tmp_path: Path, postgres: Callable[[], str]) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres())

    with pytest.raises(StartRefused, match="vera-hub migrate"):
        create_app(settings)


def _make(database: Database, revision: str) -> None:
    """Brings an empty database to the schema of a release there was."""
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    with database.engine.execution_options(writes=True).begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_version_files_stand_alone() -> None:
    for file in (migrations_folder() / "versions").glob("*.py"):
        assert "import hub" not in file.read_text()
        assert "from hub" not in file.read_text()
