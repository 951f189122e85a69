from __future__ import annotations

import errno
import hashlib
from base64 import b64encode
from dataclasses import replace
from pathlib import Path

import httpx2
import numpy as np
import pytest

from sdk.client import Hub
from sdk.config import Config, Login, Profile
from sdk.errors import BadAnswer, DigestMismatch, HubError, HubWarning, NotFound, Offline
from sdk.fetching import fetch, fetch_many, pull
from sdk.pushing import push_archive
from sdk.resolving import resolve
from tests.builders import flip_byte, make_archive
from tests.sdk.fakes import URL, FakeHub, answer, hub_for, version_json
from vera import archive as archives
from vera.archive import Archive
from vera.bundle import MEDIA_TYPE, bundle
from vera.errors import ArchiveError, ManifestError, RefError
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.ref import AdapterRef

FIRST, SECOND = make_archive(seed=1), make_archive(seed=2)


@pytest.fixture
def two(fake: FakeHub) -> FakeHub:
    """A hub with two versions of demo/a; `prod` is the first."""
    fake.publish("demo/a", FIRST)
    fake.publish("demo/a", SECOND)
    fake.aliases["prod"] = 1
    return fake


def cached_file(config: Config, data: bytes) -> Path:
    sha256 = hashlib.sha256(data).hexdigest()
    return config.cache / "blobs" / sha256[:2] / sha256


# -- What a reference gives -----------------------------------------------------------------------


def test_no_selector_gives_the_latest_version_whole(two: FakeHub, hub: Hub) -> None:
    fetched = fetch("demo/a", hub=hub)

    assert fetched.version_ref == "demo/a@v2"
    assert fetched.archive == SECOND
    assert fetched.downloaded_bytes == sum(len(SECOND.files[path]) for path in (WEIGHTS_FILE, CARD_FILE))


def test_a_fresh_adapter_takes_one_request_for_the_version_and_two_side_by_side(two: FakeHub, hub: Hub) -> None:
    """The manifest is in the version's answer and PEFT's configuration follows from it: only their hashes decide."""
    fetch("demo/a@v1", hub=hub)

    assert [path.rpartition("/")[0] for path in two.paths] == [
        "GET /api/v1/adapters/demo/a/versions",
        "GET /api/v1/adapters/demo/a/blobs",
        "GET /api/v1/adapters/demo/a/blobs",
    ]


def carried(archive: Archive) -> dict[str, str]:
    """What a hub sends of it with the version."""
    return {path: b64encode(archive.files[path]).decode() for path in (WEIGHTS_FILE, CARD_FILE)}


def test_a_fresh_adapter_takes_one_request_from_a_hub_that_sends_the_files_with_the_version(
    two: FakeHub, hub: Hub
) -> None:
    two.change_version = lambda version: version.update(content=carried(FIRST))

    fetched = fetch("demo/a@v1", hub=hub)

    assert fetched.archive == FIRST
    assert fetched.downloaded_bytes == sum(len(FIRST.files[path]) for path in (WEIGHTS_FILE, CARD_FILE))
    assert [str(request.url.query, "ascii") for request in two.requests] == ["with_files=true"]


def unchanged(_: dict[str, bytes]) -> None:
    """What is sent is the version."""


def test_a_fresh_adapter_takes_one_request_from_a_hub_that_sends_it_as_one_body(two: FakeHub, hub: Hub) -> None:
    two.change_bundle = unchanged

    fetched = fetch("demo/a@v1", hub=hub)

    assert fetched.archive == FIRST
    assert fetched.downloaded_bytes == sum(len(FIRST.files[path]) for path in (WEIGHTS_FILE, CARD_FILE))
    (request,) = two.requests
    assert (str(request.url.query, "ascii"), MEDIA_TYPE in request.headers["accept"]) == ("with_files=true", True)


@pytest.mark.parametrize("path", [MANIFEST_FILE, WEIGHTS_FILE, CARD_FILE])
@pytest.mark.parametrize("came", [b"", SECOND.files[WEIGHTS_FILE], None], ids=["empty", "another's", "missing"])
def test_a_body_whose_files_are_not_the_versions_is_not_believed(
    two: FakeHub, hub: Hub, path: str, came: bytes | None
) -> None:
    def change(files: dict[str, bytes]) -> None:
        files.pop(path)
        files |= {} if came is None else {path: came}
        files["../elsewhere"] = b"x"

    two.change_bundle = change

    assert fetch("demo/a@v1", hub=hub).archive == FIRST
    sha256 = hashlib.sha256(FIRST.files[path]).hexdigest()
    assert two.paths[1:] == [f"GET /api/v1/adapters/demo/a/blobs/{sha256}"]


def test_a_body_that_breaks_off_is_refused(two: FakeHub, hub: Hub) -> None:
    said = bundle(b'{"version":1}', {WEIGHTS_FILE: b"some"})
    two.first = [httpx2.Response(200, content=said[:-1], headers={"content-type": MEDIA_TYPE})]

    with pytest.raises(BadAnswer, match="4 bytes by its first line, and 3 follow"):
        fetch("demo/a@v1", hub=hub)


def test_what_a_body_of_files_says_of_the_version_is_told(two: FakeHub, hub: Hub) -> None:
    two.change_bundle = unchanged
    two.change_version = lambda version: version.update(yanked="Wrong data.", deprecated={"message": "Old."})

    with pytest.warns(HubWarning) as told:
        fetch("demo/a@v1", hub=hub)

    assert ["was yanked (Wrong data.)" in str(told[0].message), "is deprecated: Old." in str(told[1].message)] == [
        True
    ] * 2


def test_who_has_fetched_what_moves_before_asks_without_the_files(two: FakeHub, hub: Hub) -> None:
    fetch("demo/a@prod", hub=hub)
    resolve("demo/a@v2", hub=hub)
    two.requests.clear()

    fetch("demo/a@prod", hub=hub)

    assert [str(request.url) for request in two.requests] == [f"{URL}/api/v1/adapters/demo/a/versions/prod"]


@pytest.mark.parametrize(
    "content",
    [
        carried(SECOND),
        {WEIGHTS_FILE: "no base64 é", CARD_FILE: "=", "../elsewhere": "eA=="},
        {WEIGHTS_FILE: ""},
    ],
    ids=["another version's", "no base64", "empty"],
)
def test_files_that_are_sent_with_a_version_and_are_not_its_own_are_asked_for(
    two: FakeHub, hub: Hub, content: dict[str, str]
) -> None:
    two.change_version = lambda version: version.update(content=content)

    assert fetch("demo/a@v1", hub=hub).archive == FIRST
    assert f"GET /api/v1/adapters/demo/a/blobs/{FIRST.manifest.weights.sha256}" in two.paths


@pytest.mark.parametrize("manifest", [{}, {"schema": "vera-adapter/1"}, {"x": float(1 << 60)}, {"x": [[]] * 9}])
def test_a_version_that_misquotes_its_manifest_is_asked_for_the_manifest_itself(
    two: FakeHub, hub: Hub, manifest: dict[str, object]
) -> None:
    two.change_version = lambda version: version.update(manifest=manifest)

    assert fetch("demo/a@v1", hub=hub).archive == FIRST
    assert len(two.requests) == 4


def test_many_are_fetched_in_their_order_and_again_without_a_request(two: FakeHub, hub: Hub) -> None:
    refs = ["demo/a@v2", "demo/a@v1", "demo/a@v2"]
    fetched = fetch_many(refs, hub=hub)
    two.requests.clear()

    assert [each.archive for each in fetched] == [SECOND, FIRST, SECOND]
    assert [each.archive for each in fetch_many(refs, hub=hub)] == [SECOND, FIRST, SECOND]
    assert two.requests == []


@pytest.mark.parametrize("pin", ["@v1", "@prod", f"@{FIRST.manifest.digest}", f"@v1@{FIRST.manifest.digest}"])
def test_a_pin_gives_its_version(two: FakeHub, hub: Hub, pin: str) -> None:
    assert fetch(f"demo/a{pin}", hub=hub).archive == FIRST


def test_an_immutable_reference_asks_nothing_the_second_time(two: FakeHub, hub: Hub) -> None:
    first = fetch("demo/a@v2", hub=hub)
    two.requests.clear()

    again = [fetch(f"demo/a@{name}", hub=hub) for name in ("v2", first.resolved.commit, first.resolved.digest)]

    assert two.requests == []
    assert {fetched.archive.manifest.digest for fetched in again} == {SECOND.manifest.digest}
    assert [fetched.downloaded_bytes for fetched in again] == [0, 0, 0]


def test_latest_always_asks_and_downloads_only_what_is_new(two: FakeHub, hub: Hub) -> None:
    fetch("demo/a", hub=hub)
    two.publish("demo/a", make_archive(seed=2, card="# Another card\n"))
    two.requests.clear()

    fetched = fetch("demo/a", hub=hub)

    assert fetched.version_ref == "demo/a@v3"
    assert [path.rpartition("/")[0] for path in two.paths] == [
        "GET /api/v1/adapters/demo/a/versions",
        "GET /api/v1/adapters/demo/a/blobs",
    ]


def test_an_unknown_reference_is_not_found(two: FakeHub, hub: Hub) -> None:
    with pytest.raises(NotFound, match=r"demo/a has no v9"):
        fetch("demo/a@v9", hub=hub)
    with pytest.raises(RefError):
        fetch("no reference", hub=hub)


def test_pull_writes_the_adapter_as_a_folder(two: FakeHub, hub: Hub, config: Config, tmp_path: Path) -> None:
    fetch("demo/a@v1", hub=hub)

    pulled = pull("demo/a@v1", to=tmp_path / "here", config=replace(config, offline=True))

    assert pulled.folder == tmp_path / "here"
    assert archives.read_folder(tmp_path / "here") == FIRST


def test_pull_leaves_a_folder_that_is_no_adapter_alone(two: FakeHub, hub: Hub, config: Config, tmp_path: Path) -> None:
    fetch("demo/a@v1", hub=hub)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("years of work")

    with pytest.raises(ArchiveError, match="not an adapter"):
        pull("demo/a@v1", to=tmp_path / "notes", config=replace(config, offline=True))

    assert [path.name for path in (tmp_path / "notes").iterdir()] == ["thesis.txt"]


# -- Pins -----------------------------------------------------------------------------------------


def test_a_version_that_is_not_the_pinned_digest_is_refused_by_whoever_notices(two: FakeHub, hub: Hub) -> None:
    wrong = f"demo/a@v1@{SECOND.manifest.digest}"

    with pytest.raises(DigestMismatch):
        fetch(wrong, hub=hub)
    fetch("demo/a@v1", hub=hub)
    two.requests.clear()
    with pytest.raises(DigestMismatch, match="pinned"):
        fetch(wrong, hub=hub)

    assert two.requests == []


def test_an_alias_with_a_digest_fails_once_the_alias_has_moved(two: FakeHub, hub: Hub) -> None:
    pinned = f"demo/a@prod@{FIRST.manifest.digest}"
    assert fetch(pinned, hub=hub).archive == FIRST
    two.aliases["prod"] = 2

    with pytest.raises(DigestMismatch):
        fetch(pinned, hub=hub)


# -- A hub that lies or breaks --------------------------------------------------------------------


def test_a_hub_that_ignores_the_digest_is_found_out(two: FakeHub, hub: Hub) -> None:
    two.first = [answer(version_json("demo/a", 1, FIRST))]

    with pytest.raises(DigestMismatch, match="pinned"):
        fetch(f"demo/a@v1@{SECOND.manifest.digest}", hub=hub)


def test_a_hub_that_answers_with_another_number_is_found_out(two: FakeHub, hub: Hub) -> None:
    two.first = [answer(version_json("demo/a", 2, SECOND))]

    with pytest.raises(BadAnswer, match="v2"):
        fetch("demo/a@v1", hub=hub)


@pytest.mark.parametrize("path", [MANIFEST_FILE, WEIGHTS_FILE, CARD_FILE])
def test_bytes_that_are_not_the_promised_ones_are_refused_and_not_kept(
    two: FakeHub, hub: Hub, config: Config, path: str
) -> None:
    data = FIRST.files[path]
    two.blobs[hashlib.sha256(data).hexdigest()] = flip_byte(data)
    two.change_version = lambda version: version.update(manifest={})

    with pytest.raises(DigestMismatch, match=path):
        fetch("demo/a@v1", hub=hub)

    assert not cached_file(config, data).exists()
    assert not cached_file(config, flip_byte(data)).exists()


def test_an_adapter_that_is_broken_in_itself_is_refused_although_every_hash_holds(fake: FakeHub, hub: Hub) -> None:
    weights = bytearray(FIRST.files[WEIGHTS_FILE])
    weights[-4:] = np.float32("nan").tobytes()
    sha256 = hashlib.sha256(weights).hexdigest()
    manifest = replace(FIRST.manifest, weights=replace(FIRST.manifest.weights, sha256=sha256))
    files = {**FIRST.files, MANIFEST_FILE: manifest.to_bytes(), WEIGHTS_FILE: bytes(weights)}
    fake.publish("demo/a", archives.Archive(manifest, files))

    with pytest.raises(ArchiveError) as error:
        fetch("demo/a", hub=hub)

    assert error.value.code == "TENSOR_NONFINITE"


def test_a_manifest_that_is_none_is_refused(fake: FakeHub, hub: Hub) -> None:
    data = b'{"schema":"vera-adapter/9"}'
    fake.publish("demo/a", archives.Archive(FIRST.manifest, FIRST.files))
    digest = hashlib.sha256(data).hexdigest()
    fake.blobs[digest] = data
    fake.change_version = lambda version: version.update(digest=f"sha256:{digest}")

    with pytest.raises(ManifestError) as error:
        fetch("demo/a", hub=hub)

    assert error.value.code == "SCHEMA_UNSUPPORTED"


def test_an_endless_file_is_cut_off(fake: FakeHub, hub: Hub) -> None:
    fake.publish("demo/a", FIRST)
    sent = 0

    def endless():
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b"x" * (1 << 16)

    resolved = answer({**version_json("demo/a", 1, FIRST), "manifest": {}})
    fake.first = [resolved, httpx2.Response(200, content=endless())]

    with pytest.raises(BadAnswer, match="longer than"):
        fetch("demo/a", hub=hub)

    assert sent <= archives.MAX_BYTES[MANIFEST_FILE] + (2 << 16)


def test_names_a_hub_gives_to_files_are_ignored(fake: FakeHub, hub: Hub, tmp_path: Path) -> None:
    fake.publish("demo/a", FIRST)
    fake.change_version = lambda version: version.update(
        ref="../../evil@v1", id="/etc/evil", files=[{"path": "../../evil", "sha256": "0" * 64, "size_bytes": 1}]
    )

    fetched = fetch("demo/a", hub=hub)
    archives.write_folder(fetched.archive, tmp_path / "out")

    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FIRST.files)


@pytest.mark.parametrize(
    "change", [{"version": 0}, {"version": "1"}, {"commit": "../../x"}, {"digest": "sha256:00"}, {"digest": None}]
)
def test_an_answer_that_names_no_version_is_refused(fake: FakeHub, hub: Hub, change: dict[str, object]) -> None:
    fake.publish("demo/a", FIRST)
    fake.change_version = lambda version: version.update(change)

    with pytest.raises(BadAnswer):
        fetch("demo/a", hub=hub)


def test_a_version_that_changes_is_noticed(two: FakeHub, hub: Hub) -> None:
    fetch("demo/a@v2", hub=hub)
    two.versions["demo/a"][1] = FIRST

    with pytest.raises(DigestMismatch, match="versions do not change"):
        fetch("demo/a", hub=hub)


def test_a_hub_that_was_set_up_anew_is_believed_by_whoever_pushes_to_it(two: FakeHub, hub: Hub) -> None:
    fetch("demo/a@v1", hub=hub)
    two.versions["demo/a"] = []

    push_archive(hub, SECOND, AdapterRef("demo", "a"))

    assert fetch("demo/a@v1", hub=hub).archive == SECOND


# -- The cache ------------------------------------------------------------------------------------


def test_what_follows_from_the_manifest_is_kept_nowhere(two: FakeHub, hub: Hub, config: Config) -> None:
    fetch("demo/a@v1", hub=hub)
    assert not cached_file(config, FIRST.files[CONFIG_FILE]).exists()
    two.requests.clear()

    assert fetch("demo/a@v1", hub=hub).archive.files[CONFIG_FILE] == FIRST.files[CONFIG_FILE]
    assert two.requests == []


@pytest.mark.parametrize("path", sorted(FIRST.files.keys() - {CONFIG_FILE}))
def test_a_damaged_file_in_the_cache_is_fetched_again(two: FakeHub, hub: Hub, config: Config, path: str) -> None:
    fetch("demo/a@v1", hub=hub)
    cached = cached_file(config, FIRST.files[path])
    cached.write_bytes(flip_byte(FIRST.files[path]))
    two.requests.clear()

    fetched = fetch("demo/a@v1", hub=hub)

    assert fetched.archive == FIRST
    assert fetched.downloaded_bytes == len(FIRST.files[path])
    assert len(two.requests) == 1
    assert cached.read_bytes() == FIRST.files[path]


def test_a_download_that_breaks_off_leaves_nothing_and_the_next_one_works(
    two: FakeHub, hub: Hub, config: Config
) -> None:
    resolved = answer({**version_json("demo/a", 1, FIRST), "manifest": {}})
    broken = httpx2.ReadError("the line is dead")
    two.first = [resolved, broken, broken, broken, broken]

    with pytest.raises(HubError, match="broke"):
        fetch("demo/a@v1", hub=hub)

    assert not (config.cache / "blobs").exists()
    assert fetch("demo/a@v1", hub=hub).archive == FIRST


# -- Offline --------------------------------------------------------------------------------------


@pytest.fixture
def offline(config: Config, fake: FakeHub) -> Hub:
    return hub_for(fake, replace(config, offline=True))


def test_offline_what_was_fetched_loads_and_no_request_is_made(two: FakeHub, hub: Hub, offline: Hub) -> None:
    fetch("demo/a@v1", hub=hub)
    two.requests.clear()

    assert fetch("demo/a@v1", hub=offline).archive == FIRST
    assert two.requests == []


def test_offline_a_moving_reference_means_what_it_last_meant_and_says_so(two: FakeHub, hub: Hub, offline: Hub) -> None:
    fetch("demo/a@prod", hub=hub)
    two.aliases["prod"] = 2

    with pytest.warns(UserWarning, match="taken to mean v1"):
        fetched = fetch("demo/a@prod", hub=offline)

    assert fetched.archive == FIRST


def test_offline_what_was_never_fetched_says_how_to_get_it(two: FakeHub, hub: Hub, offline: Hub) -> None:
    with pytest.raises(Offline, match="vera-hub pull demo/a@v1"):
        fetch("demo/a@v1", hub=offline)
    resolve("demo/a@v1", hub=hub)
    with pytest.raises(Offline, match=r"vera\.json"):
        fetch("demo/a@v1", hub=offline)


# -- Another hub ----------------------------------------------------------------------------------


def test_a_reference_with_a_host_is_asked_there_with_the_token_for_there(config: Config) -> None:
    Profile().with_login("http://other.test", Login("vhp_" + "O" * 46, "demo")).write(config.folder)
    fake = FakeHub()
    fake.publish("demo/a", FIRST)

    fetched = fetch("vera://other.test/demo/a", hub=hub_for(fake, config.at_host("other.test")))

    assert fetched.resolved.url == "http://other.test"
    assert {request.url.host for request in fake.requests} == {"other.test"}
    assert {request.headers["authorization"] for request in fake.requests} == {"Bearer vhp_" + "O" * 46}


def test_a_place_that_cannot_be_written_or_is_taken_is_told_before_the_hub_is_asked(
    tmp_path: Path, fake: FakeHub, hub: Hub
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")

    for place, code in (("file/out", "FOLDER_UNWRITABLE"), ("taken", "FOLDER_TAKEN")):
        with pytest.raises(ArchiveError) as refused:
            pull("demo/a", to=tmp_path / place, hub=hub)
        assert refused.value.code == code
    assert fake.requests == []


def test_a_place_that_is_full_says_so_and_keeps_nothing(
    two: FakeHub, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(
        ArchiveError, match=r"out could not be written \(No space left on device\): make room"
    ) as refused:
        pull("demo/a", to=tmp_path / "here" / "out", hub=hub)

    assert refused.value.code == "FOLDER_UNWRITABLE"
    assert list((tmp_path / "here").iterdir()) == []
