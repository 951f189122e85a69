from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from sdk.cache import Cache, Resolution
from sdk.files import read_bounded, write_new, write_under_names, writing_atomically
from tests.builders import flip_byte
from vera.ref import AdapterRef

DATA = b"the bytes of a file"
SHA256 = hashlib.sha256(DATA).hexdigest()
LATEST = AdapterRef("demo", "a")
FIRST = Resolution(1, "a" * 40, f"sha256:{'b' * 64}")


def only_file(folder: Path) -> Path:
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def test_a_kept_file_comes_back_by_its_hash(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    cache.keep_blob(DATA)

    assert cache.get_blob(SHA256) == DATA
    assert cache.get_blob("0" * 64) is None
    assert only_file(tmp_path) == tmp_path / "blobs" / SHA256[:2] / SHA256


@pytest.mark.parametrize("damage", [flip_byte, lambda data: data[:-1], lambda data: b"", lambda data: data + b"!"])
def test_a_damaged_file_is_never_given_out_and_is_removed(tmp_path: Path, damage) -> None:
    cache = Cache(tmp_path)
    cache.keep_blob(DATA)
    path = only_file(tmp_path)
    path.write_bytes(damage(DATA))

    assert cache.get_blob(SHA256) is None
    assert not path.exists()


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, f"{SHA256}/x", SHA256[:-1]])
def test_only_a_hash_can_name_a_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a sha256"):
        Cache(tmp_path).get_blob(name)


def test_many_writers_and_readers_of_one_file_see_it_whole_or_not_at_all(tmp_path: Path) -> None:
    data = os.urandom(1 << 18)
    sha256 = hashlib.sha256(data).hexdigest()

    def write_and_read(_: int) -> bytes | None:
        cache = Cache(tmp_path)
        seen = cache.get_blob(sha256)
        cache.keep_blob(data)
        return seen

    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(write_and_read, range(64)))

    assert set(seen) <= {None, data}
    assert Cache(tmp_path).get_blob(sha256) == data


def test_what_a_killed_writer_left_is_never_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.keep_blob(DATA)
    only_file(tmp_path).rename(tmp_path / "blobs" / SHA256[:2] / ".tmp-killed")

    assert cache.get_blob(SHA256) is None


def test_a_cache_that_cannot_be_written_costs_a_warning_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    cache = Cache(tmp_path / "file")

    with pytest.warns(UserWarning, match="cannot be written"):
        cache.keep_blob(DATA)

    assert cache.get_blob(SHA256) is None


def test_what_a_reference_meant_is_remembered_with_every_fixed_name_of_the_version(tmp_path: Path) -> None:
    cache = Cache(tmp_path)

    cache.remember("http://a.test", LATEST, FIRST)

    for text in ("demo/a", "demo/a@v1", f"demo/a@{FIRST.commit}", f"demo/a@{FIRST.digest}"):
        assert cache.recall("http://a.test", AdapterRef.parse(text)) == FIRST
    for url, text in (("http://b.test", "demo/a"), ("http://a.test", "demo/b"), ("http://a.test", "demo/a@v2")):
        assert cache.recall(url, AdapterRef.parse(text)) is None


def test_what_became_of_a_version_is_remembered_under_each_of_its_names(tmp_path: Path) -> None:
    cache, yanked = Cache(tmp_path), replace(FIRST, yanked="Wrong data.")
    cache.remember("http://a.test", LATEST, FIRST)
    names = [AdapterRef.parse(f"demo/a@{each}") for each in FIRST.selectors]
    only_one(tmp_path, b'"latest"').unlink()
    assert {path.stat().st_nlink for path in tmp_path.rglob("*.json")} == {len(names)}

    cache.remember("http://a.test", names[1], yanked)

    assert [cache.recall("http://a.test", each) for each in names] == [yanked] * 3
    assert [record.resolution for record in cache.remembered()] == [yanked] * 3
    assert not list(cache.leftovers())


def only_one(folder: Path, holding: bytes) -> Path:
    (path,) = (path for path in folder.rglob("*.json") if holding in path.read_bytes())
    return path


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b'{"resolution": {"version": 1, "commit": "../..", "digest": "sha256:00"}}',
        b"[" * 9999,
    ],
)
def test_a_damaged_memory_is_no_memory(tmp_path: Path, data: bytes) -> None:
    cache = Cache(tmp_path)
    cache.remember("http://a.test", LATEST, FIRST)
    for path in tmp_path.rglob("*.json"):
        path.write_bytes(data)

    assert cache.recall("http://a.test", LATEST) is None


def test_a_file_that_is_there_stays_as_it_is_and_a_new_one_has_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"

    write_new(path, b"first", mode=0o640)
    write_new(path, b"second")

    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o640
    assert only_file(tmp_path) == path


def test_a_file_system_without_nameless_files_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "O_TMPFILE")

    write_new(tmp_path / "file", b"data")
    assert only_file(tmp_path).read_bytes() == b"data"

    names = [tmp_path / "file", tmp_path / "a" / "file"]
    write_under_names(names, b"other")
    assert [path.read_bytes() for path in names] == [b"other", b"other"]


def test_a_pipe_where_a_file_belongs_is_no_file_and_nobody_waits_for_it(tmp_path: Path) -> None:
    cache, data = Cache(tmp_path), b"bytes"
    sha256 = hashlib.sha256(data).hexdigest()
    path = cache.blob_file(sha256)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert not cache.is_whole(sha256)
    assert cache.get_blob(sha256) is None
    cache.keep_blob(data)
    assert cache.get_blob(sha256) == data
    os.mkfifo(tmp_path / "pipe")
    assert read_bounded(tmp_path / "pipe", 10) is None
    assert read_bounded(tmp_path, 10) is None


def test_a_file_that_is_being_written_is_its_owners_alone_and_goes_when_writing_fails(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with suppress(BrokenPipeError), writing_atomically(tmp_path / "broken", mode=0o644) as file:
            raise BrokenPipeError
        with writing_atomically(tmp_path / "file", mode=0o644) as file:
            file.write(b"whole")
            while_written = Path(file.name).stat().st_mode & 0o777
    finally:
        os.umask(before)

    assert while_written == 0o600
    assert only_file(tmp_path).read_bytes() == b"whole"
    assert only_file(tmp_path).stat().st_mode & 0o777 == 0o644
