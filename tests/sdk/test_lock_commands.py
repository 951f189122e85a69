"""`vera-hub lock`, `lock --check`, `sync` and `pull --locked`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders import make_archive, make_base
from tests.sdk.commands import run
from tests.sdk.fakes import FakeHub, serve
from tests.sdk.live.published import serve_base
from vera import archive as archives

FIRST, SECOND = make_archive(seed=1), make_archive(seed=2)


@pytest.fixture
def url(fake: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub with two versions of demo/a, `prod` being the first; the commands run in an empty folder."""
    fake.publish("demo/a", FIRST)
    fake.publish("demo/a", SECOND)
    fake.aliases["prod"] = 1
    serve_base(fake, make_base())
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    with serve(fake) as at:
        yield at


def test_locking_says_what_changed_and_updates_what_is_locked(fake: FakeHub, url: str) -> None:
    first = run(url, "lock", "demo/a@prod", "demo/a@v2")
    fake.aliases["prod"] = 2
    again = run(url, "lock")
    as_json = run(url, "lock", "--json")

    assert first.exit_code == again.exit_code == 0, first.output
    assert f"demo/a@prod → v1  {FIRST.manifest.digest}  (new)\n" in first.stdout
    assert f"demo/a@prod → v2  {SECOND.manifest.digest}  (was v1)\n" in again.stdout
    assert f"demo/a@v2 → v2  {SECOND.manifest.digest}\n" in again.stdout
    assert json.loads(as_json.stdout)["demo/a@prod"]["version"] == 2


def test_check_changes_nothing_and_ends_with_1_when_an_alias_has_moved_or_a_version_is_yanked(
    fake: FakeHub, url: str
) -> None:
    run(url, "lock", "demo/a@prod", "demo/a@v2")
    before = Path("vera.lock").read_bytes()
    fine = run(url, "lock", "--check")
    fake.aliases["prod"] = 2
    moved = run(url, "lock", "--check")
    fake.aliases["prod"] = 1
    fake.change_version = lambda version: version.update(yanked="it is wrong" if version["version"] == 2 else None)
    yanked = run(url, "lock", "--check", "--json")

    assert (fine.exit_code, fine.stdout) == (0, "All 2 are up to date\n")
    assert moved.exit_code == yanked.exit_code == 1
    assert FIRST.manifest.digest in moved.stdout
    assert SECOND.manifest.digest in moved.stdout
    assert json.loads(yanked.stdout) == [{"ref": "demo/a@v2", "finding": "v2 was yanked (it is wrong)"}]
    assert Path("vera.lock").read_bytes() == before


def test_after_sync_everything_loads_without_a_network(
    fake: FakeHub, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(url, "lock", "demo/a@prod")
    run(url, "cache", "prune", "--all")

    synced = run(url, "sync")
    monkeypatch.setenv("VERA_HUB_OFFLINE", "1")
    fake.requests.clear()
    pulled = run(url, "pull", "demo/a@prod", "--locked", "--to", "out")
    again = run(url, "sync", "--json")

    assert synced.stdout.startswith(f"demo/a@v1  {FIRST.manifest.digest}  (")
    assert pulled.exit_code == again.exit_code == 0, pulled.output
    assert archives.read_folder(Path("out")) == FIRST
    assert json.loads(again.stdout)[0]["downloaded_bytes"] == 0
    assert fake.requests == []


def test_pull_locked_refuses_what_is_not_locked(url: str) -> None:
    missing = run(url, "pull", "demo/a@v2", "--locked")
    run(url, "lock", "demo/a@prod")
    other = run(url, "pull", "demo/a@v2", "--locked")

    assert missing.exit_code == other.exit_code == 1
    assert "vera-hub lock REF" in missing.stderr
    assert "demo/a@v2 is asked for and vera.lock pins demo/a@prod → v1" in other.stderr
    assert not Path("a").exists()
