"""The cache, looked after: what is listed is there, and what is removed was not needed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from sdk import housekeeping
from sdk.client import Hub
from sdk.config import Config
from sdk.fetching import fetch
from tests.builders import flip_byte, make_archive
from tests.sdk.commands import run
from tests.sdk.fakes import URL, FakeHub
from vera import archive as archives
from vera.manifest import CONFIG_FILE, WEIGHTS_FILE

FIRST, SECOND = make_archive(seed=1), make_archive(seed=2)


@pytest.fixture
def cache(fake: FakeHub, hub: Hub, config: Config) -> Path:
    """A cache with both versions of demo/a in it; they share the card and PEFT's configuration."""
    for archive in (FIRST, SECOND):
        fake.publish("demo/a", archive)
    fetch("demo/a@v1", hub=hub)
    fetch("demo/a", hub=hub)
    return config.cache


def blob(cache: Path, archive: archives.Archive) -> Path:
    sha256 = archive.manifest.weights.sha256
    return cache / "blobs" / sha256[:2] / sha256


def age(path: Path, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(path, (then, then))


def records(cache: Path) -> list[Path]:
    return list((cache / "refs").rglob("*.json"))


def test_the_versions_are_listed_with_their_sizes(cache: Path) -> None:
    first, second = housekeeping.list_versions(cache)

    assert (first.ref, second.ref) == ("demo/a@v1", "demo/a@v2")
    kept_bytes = FIRST.size_bytes - len(FIRST.files[CONFIG_FILE])  # which follows from the manifest
    assert (first.size_bytes, first.hub, first.digest) == (kept_bytes, URL, FIRST.manifest.digest)
    assert first.is_complete
    assert abs(first.fetched_at_s - time.time()) < 60


@pytest.mark.parametrize("lost", ["weights", "manifest"])
def test_a_version_that_lost_a_file_is_incomplete(cache: Path, lost: str) -> None:
    digest = FIRST.manifest.digest.removeprefix("sha256:")
    path = blob(cache, FIRST) if lost == "weights" else cache / "blobs" / digest[:2] / digest
    path.unlink()

    assert [version.is_complete for version in housekeeping.list_versions(cache)] == [False, True]


def test_verifying_removes_what_is_damaged_and_the_next_fetch_heals_it(cache: Path, hub: Hub, fake: FakeHub) -> None:
    blob(cache, FIRST).write_bytes(flip_byte(FIRST.files[WEIGHTS_FILE]))
    checked = housekeeping.verify(cache)

    assert checked.damaged == (FIRST.manifest.weights.sha256,)
    assert checked.files == 5  # two manifests, two weights, one card
    assert not blob(cache, FIRST).exists()
    assert fetch("demo/a@v1", hub=hub).archive == FIRST
    assert housekeeping.verify(cache).damaged == ()


def test_pruning_takes_what_nothing_refers_to_and_what_the_killed_left(cache: Path) -> None:
    orphan = cache / "blobs" / "00" / f"00{'1' * 62}"
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody's")
    old, young = orphan.with_name(".tmp-old"), orphan.with_name(".tmp-young")
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    age(old, 1)

    pruned = housekeeping.prune(cache)

    assert pruned == housekeeping.Pruned(2, len(b"nobody's") + len(b"half"))
    assert young.exists()
    assert all(version.is_complete for version in housekeeping.list_versions(cache))


def test_pruning_by_age_keeps_what_a_younger_version_shares(cache: Path) -> None:
    for path in records(cache):
        if json.loads(path.read_text())["resolution"]["version"] == 1:
            age(path, 30)

    housekeeping.prune(cache, older_than_days=7)

    (left,) = housekeeping.list_versions(cache)
    assert (left.ref, left.is_complete) == ("demo/a@v2", True)
    assert not blob(cache, FIRST).exists()


def test_pruning_everything_leaves_nothing_and_costs_nothing_but_a_download(cache: Path, hub: Hub) -> None:
    housekeeping.prune(cache, everything=True)

    assert housekeeping.list_versions(cache) == []
    assert [path for path in cache.rglob("*") if path.is_file()] == []
    assert fetch("demo/a@v1", hub=hub).archive == FIRST


def test_the_commands_say_it_for_people_and_for_programs(cache: Path) -> None:
    listed, as_json = run(URL, "cache", "list"), run(URL, "cache", "list", "--json")
    blob(cache, FIRST).write_bytes(b"")
    damaged, whole = run(URL, "cache", "verify"), run(URL, "cache", "verify", "--json")
    pruned = run(URL, "cache", "prune", "--all")

    assert "demo/a@v1" in listed.stdout
    assert [row["ref"] for row in json.loads(as_json.stdout)] == ["demo/a@v1", "demo/a@v2"]
    assert (damaged.exit_code, whole.exit_code) == (1, 0)
    assert FIRST.manifest.weights.sha256 in damaged.stdout
    assert json.loads(whole.stdout)["damaged"] == []
    assert "files removed" in pruned.stdout
    assert run(URL, "cache", "list").stdout.startswith("Nothing is kept in ")
