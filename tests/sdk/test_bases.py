from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sdk import bases
from sdk.bases import (
    BASES_FILE,
    KnownBase,
    fingerprints_here,
    list_known,
    locate,
    remember,
)
from sdk.config import Config
from sdk.errors import Misconfigured, Offline
from tests.sdk.checkpoints import write_checkpoint
from vera import fingerprint
from vera.errors import BaseUnreadable

COMMIT = "0123456789" * 4


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "models" / "tiny")


@pytest.fixture
def known(checkpoint: Path, config: Config) -> KnownBase:
    base = KnownBase("lab/tiny", checkpoint, fingerprint.of_files(checkpoint).value, "main")
    remember(base, config=config)
    return base


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


def test_a_mistyped_base_is_answered_with_those_it_may_be_meant_for(known: KnownBase, config: Config) -> None:
    for wanted in ("lab/tny", "tab/tiny"):
        with pytest.raises(BaseUnreadable, match=f"Did you mean {known.name}\\?"):
            locate(wanted, config=config, may_download=False)
    with pytest.raises(BaseUnreadable, match=r"give its folder\.$"):
        locate("lab/large", config=config, may_download=False)


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


@pytest.mark.parametrize("wanted", ["/nowhere", "./nowhere", "nowhere"])
def test_what_is_to_be_added_and_is_nowhere_is_not_told_to_be_added(wanted: str, config: Config) -> None:
    with pytest.raises(BaseUnreadable, match=f"There is nothing at {wanted}") as refused:
        bases.obtain(wanted, config=config)
    assert refused.value.code == "BASE_NOT_HERE"
    assert "base add" not in str(refused.value)
    with pytest.raises(BaseUnreadable, match="vera-hub base add PATH"):
        bases.locate(wanted, config=config)
