from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdk import bases
from sdk.bases import (
    BASES_FILE,
    DIGESTS_FILE,
    KnownBase,
    digest_book,
    digests_of,
    fingerprint_of,
    fingerprints_here,
    list_known,
    locate,
    remember,
    table_of,
)
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import HubWarning, Misconfigured, Offline
from tests.builders import make_base
from tests.sdk.fakes import NOW, FakeHub, answer
from vera import fingerprint, tensorfile
from vera.errors import BaseUnreadable

COMMIT = "0123456789" * 4


def write_checkpoint(folder: Path, value: float = 1.0) -> Path:
    """A base of one tensor, whose file has stood there for a minute."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    path.write_bytes(tensorfile.serialize({"w": np.full((4, 4), value, "<f4")}, "F32"))
    settled_s = path.stat().st_mtime - 60
    os.utime(path, (settled_s, settled_s + value))
    return folder


class Reads:
    """A progress callback that knows whether anything was read."""

    def __init__(self) -> None:
        self.happened = False

    def __call__(self, done: int, total: int) -> None:
        self.happened = True
        assert 0 < done <= total


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "models" / "tiny")


@pytest.fixture
def known(checkpoint: Path, config: Config) -> KnownBase:
    base = KnownBase("lab/tiny", checkpoint, fingerprint.of_files(checkpoint).value, "main")
    remember(base, config=config)
    return base


# -- Where a base lies ----------------------------------------------------------------------------


def test_a_base_is_found_by_its_name_its_fingerprint_and_its_path(known: KnownBase, config: Config) -> None:
    assert locate("lab/tiny", config=config) == known.path
    assert locate(known.fingerprint, config=config) == known.path
    assert locate(known.path, config=config) == known.path
    assert locate(str(known.path), config=config) == known.path
    assert list_known(config) == (known,)
    assert fingerprints_here(config) == [known.fingerprint]


def test_a_name_means_the_base_it_was_given_last(known: KnownBase, config: Config, tmp_path: Path) -> None:
    moved = replace(known, path=write_checkpoint(tmp_path / "elsewhere"))

    remember(moved, config=config)

    assert list_known(config) == (moved,)


def test_a_base_whose_files_are_gone_says_where_they_were(known: KnownBase, config: Config) -> None:
    (known.path / "model.safetensors").unlink()
    known.path.rmdir()

    assert fingerprints_here(config) == []
    with pytest.raises(BaseUnreadable, match=rf"was at {known.path}.*base add PATH --name lab/tiny"):
        locate("lab/tiny", config=config)


@pytest.mark.parametrize("wanted", ["nowhere", f"vbf1:{'0' * 64}", "/no/such/folder"])
def test_a_base_nobody_knows_says_how_to_add_it(config: Config, wanted: str) -> None:
    with pytest.raises(BaseUnreadable, match="vera-hub base add") as error:
        locate(wanted, config=config)

    assert error.value.code == "BASE_NOT_HERE"


def test_offline_a_hugging_face_id_is_not_downloaded(config: Config) -> None:
    with pytest.raises(Offline, match="vera-hub base add lab/unknown"):
        locate("lab/unknown", config=replace(config, offline=True))


def test_a_download_that_fails_is_one_sentence(config: Config, tmp_path: Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from sdk.bases import download\n"
        "from sdk.config import Config\n"
        "from vera.errors import BaseUnreadable\n"
        "try:\n"
        "    download('lab/unknown', config=Config('http://h', pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1])))\n"
        "except BaseUnreadable as error:\n"
        "    print(error.code, str(error))\n"
    )
    environment = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")}

    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=environment, capture_output=True, text=True, check=True
    )

    said = (
        "BASE_NOT_HERE The base lab/unknown is not known on this machine and cannot be downloaded from Hugging Face: "
    )
    assert done.stdout.startswith(said)
    assert ". Check its name (`vera-hub base list` shows those known here)" in done.stdout
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("data", ["", "{", "[]", '{"bases": [{}]}', '{"bases": {"a": 1}}'])
def test_a_broken_table_of_bases_is_said_to_be_broken(config: Config, data: str) -> None:
    config.folder.mkdir(parents=True)
    (config.folder / BASES_FILE).write_text(data)

    with pytest.raises(Misconfigured, match="base add"):
        list_known(config)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/tiny", ("tiny", None)),
        ("tiny.safetensors", ("tiny.safetensors", None)),
        (f"models--lab--my-base/snapshots/{COMMIT}", ("lab/my-base", COMMIT)),
        ("models--lab--my-base/snapshots/main", ("main", None)),
    ],
)
def test_a_path_suggests_a_name(tmp_path: Path, path: str, name: tuple[str, str | None]) -> None:
    (tmp_path / path).mkdir(parents=True)

    assert bases.name_of(tmp_path / path) == name


# -- Which base it is -----------------------------------------------------------------------------


def test_the_second_fingerprint_reads_nothing(checkpoint: Path, config: Config) -> None:
    first, second = Reads(), Reads()

    expected = fingerprint_of(checkpoint, config=config, progress=first)

    assert first.happened
    assert fingerprint_of(checkpoint, config=config, progress=second) == expected == fingerprint.of_files(checkpoint)
    assert not second.happened


def test_a_changed_file_is_read_again(checkpoint: Path, config: Config) -> None:
    before = fingerprint_of(checkpoint, config=config)

    write_checkpoint(checkpoint, 2.0)

    assert fingerprint_of(checkpoint, config=config) == fingerprint.of_files(checkpoint) != before


def test_a_file_whose_time_was_set_back_is_read_again(checkpoint: Path, config: Config) -> None:
    file = checkpoint / "model.safetensors"
    before, was = fingerprint_of(checkpoint, config=config), file.stat()
    with file.open("r+b") as opened:
        opened.seek(-1, os.SEEK_END)
        opened.write(b"\x40")
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))

    assert fingerprint_of(checkpoint, config=config) == fingerprint.of_files(checkpoint) != before


def test_a_file_that_may_still_be_written_is_read_every_time(checkpoint: Path, config: Config) -> None:
    os.utime(checkpoint / "model.safetensors")
    fingerprint_of(checkpoint, config=config)
    second = Reads()

    fingerprint_of(checkpoint, config=config, progress=second)

    assert second.happened


def test_a_checkpoint_of_pickles_is_read_with_a_warning_once(tmp_path: Path, config: Config) -> None:
    import torch

    expected = fingerprint.of_files(write_checkpoint(tmp_path / "safe"))
    file = tmp_path / "old" / fingerprint.PICKLE_FILE
    file.parent.mkdir()
    torch.save({"w": torch.ones(4, 4)}, file)
    os.utime(file, (1, 1))

    with pytest.warns(HubWarning, match="is a pickle"):
        assert fingerprint_of(file.parent, config=config) == expected
    assert fingerprint_of(file.parent, config=config) == expected


OTHER_TABLE = json.dumps(make_base().to_rows()).encode()


@pytest.mark.parametrize("damage", [b"", b"{}", b'[["w", "F32", [4, 4], "00"]]', b"\xff", OTHER_TABLE])
def test_a_damaged_cache_costs_another_reading(checkpoint: Path, config: Config, damage: bytes) -> None:
    expected = fingerprint_of(checkpoint, config=config)
    for path in (config.cache / "tables").rglob("*.json"):
        path.write_bytes(damage)

    assert fingerprint_of(checkpoint, config=config) == expected


def test_a_table_comes_from_the_hub_once(fake: FakeHub, hub: Hub) -> None:
    base = make_base()
    fake.first = [answer(base_json(base))]

    assert table_of(base.value, hub=hub) == base
    assert table_of(base.value, hub=hub) == base
    assert fake.paths == [f"GET /api/v1/bases/{base.value}"]


def test_a_hub_that_answers_with_the_table_of_another_base_is_found_out(fake: FakeHub, hub: Hub) -> None:
    base, other = make_base(), make_base(salt="other")
    fake.first = [answer({**base_json(other), "fingerprint": base.value})]

    with pytest.raises(BaseUnreadable, match="do not trust it"):
        table_of(base.value, hub=hub)


# -- What was hashed on a GPU ----------------------------------------------------------------------


def test_what_a_block_learns_is_known_in_the_next_and_to_nobody_else(config: Config) -> None:
    with digest_book(digests_of(config)) as book:
        book.known[12, "0" * 16] = "a" * 64

    with digest_book(digests_of(config)) as again:
        assert (again.gamma, again.known) == (book.gamma, {(12, "0" * 16): "a" * 64})
    assert stat.S_IMODE((config.cache / DIGESTS_FILE).stat().st_mode) == 0o600


def test_every_machine_has_a_secret_of_its_own(config: Config, tmp_path: Path) -> None:
    with digest_book(digests_of(config)) as mine, digest_book(tmp_path / "other" / DIGESTS_FILE) as other:
        assert mine.gamma != other.gamma
        assert (mine.gamma % 2, other.gamma % 2) == (1, 1)
    assert f"{mine.gamma}" not in repr(mine)


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"[]", b"\xff", b'{"gamma": 1, "known": []}', b'{"gamma": "1", "known": [[1]]}']
)
def test_a_damaged_book_is_begun_anew(config: Config, damage: bytes) -> None:
    config.cache.mkdir(parents=True)
    (config.cache / DIGESTS_FILE).write_bytes(damage)

    with digest_book(digests_of(config)) as book:
        assert book.known == {}
        book.known[1, "0" * 16] = "b" * 64
    with digest_book(digests_of(config)) as again:
        assert again.gamma == book.gamma


def base_json(base: fingerprint.BaseFingerprint) -> dict[str, object]:
    return {
        "fingerprint": base.value,
        "name": "b",
        "revision": None,
        "dtype": base.dtype,
        "parameters": 1,
        "size_bytes": 4,
        "tensor_count": len(base.tensors),
        "adapter_count": 0,
        "created_at": NOW,
        "tensors": base.to_rows(),
    }


@pytest.mark.parametrize("wanted", ["/nowhere", "./nowhere", "nowhere"])
def test_what_is_to_be_added_and_is_nowhere_is_not_told_to_be_added(wanted: str, config: Config) -> None:
    with pytest.raises(BaseUnreadable, match=f"There is nothing at {wanted}") as refused:
        bases.obtain(wanted, config=config)
    assert refused.value.code == "BASE_NOT_HERE"
    assert "base add" not in str(refused.value)
    with pytest.raises(BaseUnreadable, match="vera-hub base add PATH"):
        bases.locate(wanted, config=config)
