"""vera.lock: what it pins loads, and nothing else does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sdk.cache import Resolution
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import DigestMismatch, HubWarning, LockMismatch, Misconfigured, Offline, Yanked
from sdk.fetching import fetch, fetch_many, pull
from sdk.locking import Lock, Locked, lock_for
from tests.builders import make_archive
from tests.sdk.fakes import FakeHub, answer, hub_for, problem, version_json
from vera.ref import AdapterRef

FIRST, SECOND = make_archive(seed=1), make_archive(seed=2)


@pytest.fixture
def two(fake: FakeHub) -> FakeHub:
    """A hub with two versions of demo/a; `prod` is the first."""
    fake.publish("demo/a", FIRST)
    fake.publish("demo/a", SECOND)
    fake.aliases["prod"] = 1
    return fake


@pytest.fixture
def lock(two: FakeHub, hub: Hub) -> Lock:
    """demo/a@prod, locked while it is v1."""
    return Lock().with_pins([Locked.of(fetch("demo/a@prod", hub=hub))])


@pytest.fixture
def elsewhere(two: FakeHub, tmp_path: Path) -> Hub:
    """The same hub for a machine with an empty cache."""
    return hub_for(two, Config("http://hub.test", tmp_path / "other", tmp_path / "other" / "cache"))


def yank(fake: FakeHub, value: Any) -> None:
    fake.change_version = lambda version: version.update(yanked=value)


# -- The file -------------------------------------------------------------------------------------


def test_a_lock_comes_back_as_it_was_written_and_reads_well(lock: Lock, tmp_path: Path) -> None:
    lock.write(tmp_path / "vera.lock")

    assert Lock.read(tmp_path / "vera.lock") == lock
    manifest = FIRST.manifest
    assert json.loads((tmp_path / "vera.lock").read_text()) == {
        "schema": "vera-lock/1",
        "adapters": {
            "demo/a@prod": {
                "version": 1,
                "digest": manifest.digest,
                "commit": lock.adapters[0].resolution.commit,
                "base": {"name": manifest.base.name, "fingerprint": manifest.base.fingerprint},
                "projection": manifest.projection_digest,
            }
        },
    }


def test_equal_locks_are_equal_bytes_whatever_the_order(lock: Lock) -> None:
    (prod,) = lock.adapters
    first = replace(prod, ref="demo/a@v1")

    one, other = Lock().with_pins([prod, first]), Lock().with_pins([first]).with_pins([prod, first])

    assert one.to_bytes() == other.to_bytes()
    assert Lock.parse(one.to_bytes()).to_bytes() == one.to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda lock: lock.update(schema="vera-lock/2"),
        lambda lock: lock.update(more=1),
        lambda lock: lock.pop("adapters"),
        lambda lock: lock.update(adapters=[1]),
        lambda lock: lock["adapters"]["demo/a@prod"].pop("digest"),
        lambda lock: lock["adapters"]["demo/a@prod"].update(digest="sha256:00"),
        lambda lock: lock["adapters"]["demo/a@prod"].update(version=True),
        lambda lock: lock["adapters"]["demo/a@prod"].update(yanked="no"),
        lambda lock: lock["adapters"]["demo/a@prod"].update(projection=None),
        lambda lock: lock["adapters"]["demo/a@prod"].update(base="vbf1:0"),
        lambda lock: lock["adapters"].update({"no reference": lock["adapters"]["demo/a@prod"]}),
        lambda lock: lock["adapters"].update({"vera://h": lock["adapters"]["demo/a@prod"]}),
    ],
)
def test_what_is_no_lock_is_refused(lock: Lock, change: Any) -> None:
    fields = json.loads(lock.to_bytes())
    change(fields)

    with pytest.raises(Misconfigured, match="vera-hub lock") as caught:
        Lock.parse(json.dumps(fields).encode())

    assert caught.value.code == "LOCK_INVALID"


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff", b"[" * 99])
def test_bytes_that_are_no_lock_are_refused(data: bytes) -> None:
    with pytest.raises(Misconfigured):
        Lock.parse(data)


def test_a_lock_that_is_not_there_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert lock_for(False) is None
    for given in (True, tmp_path / "other.lock"):
        with pytest.raises(Misconfigured, match="vera-hub lock REF"):
            lock_for(given)


# -- What it pins loads, and nothing else ---------------------------------------------------------


def test_a_moved_alias_still_means_what_was_locked(two: FakeHub, hub: Hub, lock: Lock) -> None:
    two.aliases["prod"] = 2
    two.requests.clear()

    assert fetch("demo/a@prod", hub=hub, lock=lock).archive == FIRST
    assert two.requests == []
    assert fetch("demo/a@prod", hub=hub).archive == SECOND


@pytest.mark.parametrize(
    "spelled", ["demo/a@v1", f"demo/a@{FIRST.manifest.digest}", f"demo/a@v1@{FIRST.manifest.digest}"]
)
def test_a_fixed_name_of_the_locked_version_is_in_the_lock(hub: Hub, lock: Lock, spelled: str) -> None:
    assert fetch(spelled, hub=hub, lock=lock).archive == FIRST


@pytest.mark.parametrize("spelled", ["demo/a", "demo/a@v2", f"demo/a@prod@{SECOND.manifest.digest}"])
def test_anything_else_is_refused_naming_both_sides(two: FakeHub, hub: Hub, lock: Lock, spelled: str) -> None:
    two.requests.clear()

    with pytest.raises(LockMismatch) as caught:
        fetch(spelled, hub=hub, lock=lock)

    assert caught.value.code == "LOCK_MISMATCH"
    assert spelled in str(caught.value)
    assert FIRST.manifest.digest in str(caught.value)
    assert two.requests == []


@pytest.mark.parametrize("spelled", ["demo/b", "vera://other.test/demo/a@prod"])
def test_an_adapter_that_is_not_in_the_lock_says_how_to_add_it(hub: Hub, lock: Lock, spelled: str) -> None:
    with pytest.raises(LockMismatch, match=f"vera-hub lock {spelled}") as caught:
        fetch(spelled, hub=hub, lock=lock)

    assert caught.value.code == "LOCK_MISSING"


def test_an_empty_cache_fills_from_the_lock_at_one_request_for_the_version(
    two: FakeHub, elsewhere: Hub, lock: Lock
) -> None:
    two.aliases["prod"] = 2
    two.requests.clear()

    assert fetch("demo/a@prod", hub=elsewhere, lock=lock).archive == FIRST
    assert two.paths[0].endswith("/versions/v1")
    assert len(two.requests) == 3


def test_a_hub_that_has_another_version_under_the_number_is_refused(two: FakeHub, elsewhere: Hub, lock: Lock) -> None:
    two.first = [answer(version_json("demo/a", 1, SECOND))]

    with pytest.raises((LockMismatch, DigestMismatch)) as caught:
        fetch("demo/a@prod", hub=elsewhere, lock=lock)

    assert FIRST.manifest.digest in str(caught.value)
    assert SECOND.manifest.digest in str(caught.value)


@pytest.mark.parametrize("field", ["base", "projection"])
def test_a_pin_whose_base_or_projection_was_edited_is_refused_naming_both(hub: Hub, lock: Lock, field: str) -> None:
    wrong = f"{'vbf1' if field == 'base' else 'sha256'}:{'0' * 64}"
    edited = Lock((replace(lock.adapters[0], **{field: wrong}),))

    with pytest.raises(LockMismatch, match=wrong) as caught:
        fetch("demo/a@prod", hub=hub, lock=edited)

    right = FIRST.manifest.base.fingerprint if field == "base" else FIRST.manifest.projection_digest
    assert caught.value.facts["got"] == right


def test_pull_takes_the_lock_too(two: FakeHub, hub: Hub, lock: Lock, tmp_path: Path) -> None:
    lock.write(tmp_path / "vera.lock")
    two.aliases["prod"] = 2

    pulled = pull("demo/a@prod", to=tmp_path / "a", locked=tmp_path / "vera.lock", hub=hub)

    assert pulled.archive == FIRST


def test_offline_the_lock_is_enough_once_the_files_are_here(two: FakeHub, hub: Hub, elsewhere: Hub, lock: Lock) -> None:
    away = hub_for(two, replace(hub.config, offline=True))
    empty = hub_for(two, replace(elsewhere.config, offline=True))

    assert fetch("demo/a@prod", hub=away, lock=lock).archive == FIRST
    with pytest.raises(Offline):
        fetch("demo/a@prod", hub=empty, lock=lock)


# -- Yanked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [True, "it was trained on the test set", {"reason": "it was trained on the test set"}])
def test_a_yanked_version_is_not_what_moves_means_and_an_exact_or_locked_one_loads_with_a_warning(
    two: FakeHub, hub: Hub, elsewhere: Hub, lock: Lock, said: object
) -> None:
    yank(two, said)
    reason = "no reason given" if said is True else "it was trained on the test set"

    with pytest.raises(Yanked, match=reason) as caught:
        fetch("demo/a@prod", hub=elsewhere)
    with pytest.warns(HubWarning, match=rf"demo/a@v1 was yanked \({reason}\)"):
        assert fetch("demo/a@v1", hub=elsewhere).archive == FIRST
    with pytest.warns(HubWarning, match=rf"demo/a@v1 was yanked \({reason}\)"):
        fetched = fetch("demo/a@prod", hub=elsewhere, lock=lock)

    assert caught.value.code == "VERSION_YANKED"
    assert fetched.archive == FIRST


def test_the_warning_of_a_yanked_version_comes_again_from_the_cache(two: FakeHub, elsewhere: Hub, lock: Lock) -> None:
    yank(two, "old")
    for _ in range(2):
        with pytest.warns(HubWarning, match="was yanked"):
            fetch_many(["demo/a@prod"], hub=elsewhere, lock=lock)
        with pytest.warns(HubWarning, match="was yanked"):
            fetch("demo/a@v1", hub=elsewhere)
    with pytest.raises(Yanked):
        fetch("demo/a@prod", hub=elsewhere)


def test_a_deprecated_version_loads_with_what_to_use_instead(two: FakeHub, elsewhere: Hub) -> None:
    said = {"message": "Trained on too little.", "replacement": "demo/b"}
    two.change_version = lambda version: version.update(deprecated=said)

    with pytest.warns(HubWarning, match=r"demo/a@v2 is deprecated: Trained on too little. Use demo/b instead."):
        fetch("demo/a", hub=elsewhere)


def test_a_hub_that_refuses_to_resolve_a_yanked_version_still_gives_its_files(
    two: FakeHub, elsewhere: Hub, lock: Lock
) -> None:
    refusal = problem(410, "VERSION_YANKED", "It leaks a name.")
    two.first = [refusal]
    with pytest.raises(Yanked, match="leaks a name"):
        fetch("demo/a@v1", hub=elsewhere)

    two.first = [refusal]
    with pytest.warns(HubWarning, match="leaks a name"):
        assert fetch("demo/a@prod", hub=elsewhere, lock=lock).archive == FIRST


@pytest.mark.parametrize("said", [False, None])
def test_a_version_that_is_not_yanked_is_not(two: FakeHub, hub: Hub, said: object) -> None:
    yank(two, said)

    assert fetch("demo/a@v1", hub=hub).archive == FIRST


def test_a_pin_is_valid_by_construction() -> None:
    resolution = Resolution(1, "a" * 40, f"sha256:{'b' * 64}")
    good = Locked("demo/a", resolution, "n", "vbf1:0", "sha256:0")

    assert good.answers_to(AdapterRef.parse("demo/a@latest"))
    for change in ({"base": "0"}, {"projection": "0"}, {"ref": "demo/a@sha256-" + "b" * 64}):
        with pytest.raises(ValueError, match="demo/a"):
            replace(good, **change)
