"""Versions and aliases by their commands and their client methods, on the real hub."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fastapi import FastAPI
from sqlalchemy import update
from starlette.testclient import TestClient

from hub.auth.tokens import TokenKind
from hub.db.models.accounts import Account
from hub.domain import accounts
from hub.settings import Settings
from sdk.cli.main import cli
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import Conflict, HubWarning, NotFound, Quarantined
from sdk.fetching import fetch
from sdk.models.versions import Deprecation, Said
from sdk.provenance import source_here
from sdk.pushing import push_archive
from tests.builders import BASE_NAME, make_archive, make_base
from tests.contract.serving import listening
from tests.hub.harness import start
from vera import archive as archives
from vera.adapter_difference import compare_adapters
from vera.ref import AdapterRef

TINY = AdapterRef("demo", "tiny")
V1, V2 = (replace(TINY, selector=f"v{number}") for number in (1, 2))
URL = "http://127.0.0.1:8000"

Typed = Callable[..., Result]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    app = start(Settings(data_dir=tmp_path / "hub")).app
    yield app
    app.state.services.database.close()


@pytest.fixture
def hub(app: FastAPI, tmp_path: Path) -> Hub:
    """A client of demo, who is an admin, with two versions of demo/tiny pushed."""
    with app.state.services.database.writing() as session:
        token = accounts.issue_token(session, accounts.ensure_user(session, "demo"), TokenKind.PERSONAL)
        session.execute(update(Account).values(is_admin=True))
    client = Hub(Config(URL, tmp_path / "home", tmp_path / "cache", token), http=TestClient(app, base_url=URL))
    client.register_base(BASE_NAME, make_base().to_rows())
    for seed in (1, 2):
        push_archive(client, make_archive(seed=seed), TINY)
    return client


def test_a_yanked_version_is_fetched_by_name_with_a_warning_and_is_not_the_latest(
    app: FastAPI, hub: Hub, tmp_path: Path
) -> None:
    elsewhere = Hub(replace(hub.config, cache=tmp_path / "elsewhere"), http=TestClient(app, base_url=URL))
    assert hub.yank(V2, "Worse than v1.").yank_reason == "Worse than v1."

    assert fetch("demo/tiny", hub=hub).version_ref == "demo/tiny@v1"
    with pytest.warns(HubWarning, match=r"demo/tiny@v2 was yanked \(Worse than v1.\)"):
        assert fetch(f"demo/tiny@{hub.resolve_version(V2).digest}", hub=elsewhere).version_ref == "demo/tiny@v2"
    assert hub.unyank(V2).yank_reason is None
    assert hub.get_adapter(TINY).latest == 2


def test_a_deprecated_version_is_fetched_with_a_warning(hub: Hub) -> None:
    said = hub.deprecate(V2, "Old.", replacement="demo/other@v1").deprecated

    assert said == Deprecation(message="Old.", replacement="demo/other@v1")
    with pytest.warns(HubWarning, match=r"demo/tiny@v2 is deprecated: Old. Use demo/other@v1 instead."):
        fetch("demo/tiny", hub=hub)
    assert hub.undeprecate(V2).deprecated is None


def test_quarantine_and_deletion_are_errors_of_their_own(hub: Hub) -> None:
    assert hub.quarantine(V2, "Not its author's data.").quarantined == "Not its author's data."
    with pytest.raises(Quarantined, match="Not its author's data"):
        fetch("demo/tiny@v2", hub=hub)
    assert hub.release(V2).quarantined is None
    hub.delete_version(V2, "By mistake.")
    with pytest.raises(NotFound, match="By mistake") as gone:
        hub.resolve_version(V2)
    assert gone.value.code == "VERSION_DELETED"
    assert hub.get_adapter(TINY).versions[0].deleted == "By mistake."


def test_a_prerelease_is_pushed_as_such_and_is_not_remembered_as_the_latest(hub: Hub) -> None:
    pushed = push_archive(hub, make_archive(seed=3), TINY, Said(prerelease=True, parent="v1")).version

    assert (pushed.ref, pushed.prerelease, pushed.parent) == ("demo/tiny@v3", True, "demo/tiny@v1")
    offline = Hub(replace(hub.config, offline=True))
    assert fetch("demo/tiny", hub=hub).version_ref == "demo/tiny@v2"
    with pytest.warns(HubWarning, match="VERA_HUB_OFFLINE"):
        assert fetch("demo/tiny", hub=offline).version_ref == "demo/tiny@v2"


def test_an_alias_moves_only_from_where_it_was_expected_and_says_where_it_was(hub: Hub) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    first = hub.set_alias(V1, "prod", must_be_new=True)

    assert fetch("demo/tiny@prod", hub=hub).version_ref == "demo/tiny@v1"
    with pytest.raises(Conflict, match="means v1") as refused:
        hub.set_alias(V2, "prod", expected="v2")
    assert refused.value.facts["version"] == 1
    with pytest.raises(Conflict):
        hub.set_alias(V2, "prod", must_be_new=True)
    moved = hub.set_alias(V2, "prod", revision=first.revision)
    assert fetch("demo/tiny@prod", hub=hub).version_ref == "demo/tiny@v2"
    with pytest.raises(Conflict):
        hub.remove_alias(TINY, "prod", revision=first.revision)

    assert list(hub.list_aliases(TINY)) == [moved] == list(hub.get_adapter(TINY).aliases)
    assert hub.get_alias(TINY, "prod") == moved
    assert [move.after for move in hub.alias_history(TINY, "prod")] == [2, 1]
    assert hub.alias_at(TINY, "prod", datetime.now(UTC)).after == 2
    with pytest.raises(NotFound):
        hub.alias_at(TINY, "prod", before)
    hub.remove_alias(TINY, "prod", revision=moved.revision)
    assert list(hub.list_aliases(TINY)) == []


def test_the_hub_compares_versions_and_knows_where_they_come_from(hub: Hub) -> None:
    diff = hub.diff_versions(V2, V1)

    at_home = compare_adapters(make_archive(seed=1), make_archive(seed=2), names=("demo/tiny@v1", "demo/tiny@v2"))
    assert [(each.name, each.norms, each.cosine) for each in diff.vectors] == [
        (each.name, each.norms, each.cosine) for each in at_home.vectors
    ]
    assert (diff.before, diff.after) == ("demo/tiny@v1", "demo/tiny@v2")
    lineage = hub.lineage(V2)
    assert (lineage.ancestors, lineage.children) == (("demo/tiny@v1",), ())
    assert hub.lineage(V1).children == ("demo/tiny@v2",)


# -- Commands -------------------------------------------------------------------------------------


@pytest.fixture
def typed(app: FastAPI, hub: Hub, tmp_path: Path) -> Iterator[Typed]:
    """Runs commands as demo types them."""
    with listening(app) as url:

        def run(*arguments: str) -> Result:
            places = {"VERA_HUB_CONFIG": str(tmp_path / "config"), "VERA_HUB_CACHE": str(tmp_path / "typed")}
            env = {**places, "VERA_HUB_TOKEN": hub.config.token or ""}
            return CliRunner().invoke(cli, ["--url", url, *arguments], env=env)

        yield run


def test_the_commands_take_versions_back_and_give_them_again(typed: Typed) -> None:
    for arguments, said in (
        (("yank", "demo/tiny@v2", "--reason", "Worse."), "demo/tiny@v2 is yanked: Worse.\n"),
        (("unyank", "demo/tiny@v2"), "demo/tiny@v2 is given out again.\n"),
        (("deprecate", "demo/tiny@v1", "--message", "Old.", "--use", "demo/tiny@v2"), "demo/tiny@v1 is deprecated.\n"),
        (("deprecate", "demo/tiny@v1", "--undo"), "demo/tiny@v1 is no longer deprecated.\n"),
        (("quarantine", "demo/tiny@v1", "--reason", "Odd."), "demo/tiny@v1 is in quarantine.\n"),
        (("quarantine", "demo/tiny@v1", "--undo"), "demo/tiny@v1 is given out again.\n"),
        (("delete", "demo/tiny@v2", "--reason", "Wrong.", "--yes"), "demo/tiny@v2 is deleted.\n"),
    ):
        done = typed(*arguments)
        assert (done.exit_code, done.stdout) == (0, said), done.output

    assert "deleted: Wrong." in typed("info", "demo/tiny").stdout
    assert typed("yank", "demo/tiny@v1").exit_code == 2  # no reason
    assert typed("deprecate", "demo/tiny@v1").exit_code == 2
    assert "may mean another version" in typed("yank", "demo/tiny", "--reason", "x").stderr


def test_a_command_shows_where_a_version_comes_from(typed: Typed) -> None:
    first, second = (typed("lineage", f"demo/tiny@v{number}") for number in (1, 2))

    assert first.stdout.splitlines()[0] == second.stdout.splitlines()[0].replace("@v2", "@v1")
    assert first.stdout.splitlines()[-1].split() == ["into", "demo/tiny@v2"]
    assert second.stdout.splitlines()[-1].split() == ["from", "demo/tiny@v1"]
    assert json.loads(typed("lineage", "demo/tiny@v2", "--json").stdout)["ancestors"] == ["demo/tiny@v1"]
    assert typed("lineage", "demo/tiny@v9").exit_code == 1


def test_the_alias_commands_set_show_and_remove(typed: Typed) -> None:
    assert typed("alias", "set", "demo/tiny@v1", "prod", "--new", "--protect").stdout == (
        "demo/tiny@prod → v1  (protected)\n"
    )
    assert typed("alias", "set", "demo/tiny@v2", "prod", "--expected", "v1").exit_code == 0
    refused = typed("alias", "set", "demo/tiny@v1", "prod", "--expected", "v1")
    assert (refused.exit_code, "means v2" in refused.stderr) == (1, True)
    turned = typed("alias", "set", "demo/tiny@prod", "v1")
    assert (turned.exit_code, "`vera-hub alias set demo/tiny@v1 prod`" in turned.stderr) == (2, True)

    (shown,) = json.loads(typed("alias", "list", "demo/tiny", "--json").stdout)
    assert (shown["name"], shown["version"], shown["protected"]) == ("prod", 2, True)
    assert "protected" in typed("alias", "list", "demo/tiny").stdout
    moves = json.loads(typed("alias", "history", "demo/tiny", "prod", "--json").stdout)
    assert [(move["before"], move["after"]) for move in moves] == [(1, 2), (None, 1)]
    then = typed("alias", "show", "demo/tiny", "prod", "--at", moves[1]["at"]).stdout
    assert (then.startswith("demo/tiny@prod meant v1, from "), " UTC by demo until " in then) == (True, True)
    now = typed("alias", "show", "demo/tiny", "prod").stdout
    assert (now.startswith("demo/tiny@prod means v2, since "), now.endswith(" UTC by demo, protected.\n")) == (
        True,
        True,
    )
    assert typed("alias", "show", "demo/tiny", "prod", "--at", "2020-01-01").exit_code == 1
    assert typed("alias", "show", "demo/tiny", "prod", "--at", "soon").exit_code == 2
    assert typed("alias", "rm", "demo/tiny", "prod").exit_code == 0
    assert "No aliases" in typed("alias", "list", "demo/tiny").stdout


def test_a_push_from_a_clean_repository_says_its_commit(
    typed: Typed, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    commit = a_repository(work)
    archives.write_folder(make_archive(seed=3), work / "mine")
    monkeypatch.chdir(work)
    for name in ("GITHUB_RUN_ID", "CI_JOB_URL", "CIRCLE_BUILD_URL", "BUILDKITE_BUILD_URL", "BUILD_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BUILD_URL", "https://ci.example/7")

    assert typed("push", "mine", "--prerelease", "--parent", "demo/tiny@v1").stdout.startswith(
        "demo/mine@v1  (pre-release)\n"
    )

    version = hub.resolve_version(AdapterRef("demo", "mine", "v1"))
    assert version.source is not None
    assert (version.source.commit, version.source.run) == (commit, "https://ci.example/7")
    assert version.parent == "demo/tiny@v1"


# -- Where a version is made ----------------------------------------------------------------------


def a_repository(folder: Path) -> str:
    """A git repository with one commit, whose name it gives."""

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    (folder / "train.py").write_text("print()\n")
    git("add", "train.py")
    git("commit", "-qm", "first")
    return git("rev-parse", "HEAD")


def test_the_commit_is_said_only_while_nothing_differs_from_it(tmp_path: Path) -> None:
    assert source_here(tmp_path, {}) is None
    commit = a_repository(tmp_path)
    (tmp_path / "notes.txt").write_text("untracked\n")

    source = source_here(tmp_path, {})
    assert source is not None
    assert source.commit == commit
    (tmp_path / "train.py").write_text("print(1)\n")
    assert source_here(tmp_path, {}) is None


@pytest.mark.parametrize(
    ("environment", "run"),
    [
        (
            {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/topics", "GITHUB_RUN_ID": "7"},
            "https://github.com/acme/topics/actions/runs/7",
        ),
        ({"CI_JOB_URL": "https://gitlab.example/acme/topics/-/jobs/7"}, "https://gitlab.example/acme/topics/-/jobs/7"),
        ({"BUILD_URL": "https://user:secret@ci.example/7"}, None),
        ({"BUILD_URL": "file:///etc/passwd"}, None),
        ({"GITHUB_RUN_ID": "7"}, None),
    ],
)
def test_the_run_is_the_address_the_ci_system_gives(
    tmp_path: Path, environment: dict[str, str], run: str | None
) -> None:
    source = source_here(tmp_path, environment)

    assert (source.run if source else None) == run
