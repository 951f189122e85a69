from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from sdk.client import Hub
from sdk.config import Config
from sdk.errors import DigestMismatch, Unauthorized
from sdk.models.versions import Said
from sdk.pushing import name_of_folder, push_folder
from sdk.resolving import resolve
from tests.builders import flip_byte, make_archive
from tests.sdk.fakes import FakeHub, hub_for
from vera import archive as archives
from vera.errors import ArchiveError, RefError, VeraError
from vera.manifest import CONFIG_FILE, WEIGHTS_FILE

ARCHIVE = make_archive()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    archives.write_folder(ARCHIVE, tmp_path / "my-adapter")
    return tmp_path / "my-adapter"


def test_a_push_takes_its_name_from_the_folder_and_the_user(folder: Path, fake: FakeHub, hub: Hub) -> None:
    pushed = push_folder(hub, folder)

    assert pushed.is_new
    assert pushed.version.ref == "demo/my-adapter@v1"
    assert fake.versions["demo/my-adapter"] == [ARCHIVE]


def test_the_same_push_again_gives_the_same_version(folder: Path, hub: Hub) -> None:
    first, again = push_folder(hub, folder), push_folder(hub, folder)

    assert not again.is_new
    assert again.version == first.version


def test_an_edited_card_is_another_version_of_the_same_weights(folder: Path, hub: Hub) -> None:
    first = push_folder(hub, folder)
    (folder / "README.md").write_text("# Better words\n")

    second = push_folder(hub, folder)

    assert (second.version.version, second.version.weights_digest) == (2, first.version.weights_digest)


@pytest.mark.parametrize(("name", "ref"), [("other", "demo/other@v1"), ("lab/other", "lab/other@v1")])
def test_a_name_that_is_given_goes_before_the_folders(folder: Path, hub: Hub, name: str, ref: str) -> None:
    assert push_folder(hub, folder, name).version.ref == ref


def test_what_was_pushed_is_known_without_asking(folder: Path, fake: FakeHub, hub: Hub) -> None:
    push_folder(hub, folder)
    fake.requests.clear()

    assert resolve("demo/my-adapter@v1", hub=hub).digest == ARCHIVE.manifest.digest
    assert fake.requests == []


def test_a_message_travels_along(folder: Path, fake: FakeHub, hub: Hub) -> None:
    push_folder(hub, folder, said=Said(message="half the rank — same score"))

    assert "half the rank — same score".encode() in fake.requests[-1].content


@pytest.mark.parametrize("name", ["a@v2", "a:b", "UPPER", "a/b/c", "../x", "", "-x"])
def test_a_name_that_is_given_is_not_mended(folder: Path, fake: FakeHub, hub: Hub, name: str) -> None:
    with pytest.raises(RefError):
        push_folder(hub, folder, name)

    assert fake.versions == {}


@pytest.mark.parametrize(
    ("plain", "name"),
    [("My Adapter", "my-adapter"), ("topics_v2.1", "topics_v2.1"), ("x" * 80, "x" * 64)],
)
def test_the_name_of_a_folder_is_made_valid(tmp_path: Path, plain: str, name: str) -> None:
    assert name_of_folder(tmp_path / plain) == name


@pytest.mark.parametrize("plain", ["日本", "...", "--", "модель 7", "ünïcode"])
def test_a_folder_whose_name_gives_none_says_so(tmp_path: Path, plain: str) -> None:
    with pytest.raises(RefError, match="--name"):
        name_of_folder(tmp_path / plain)


def test_the_folder_one_stands_in_has_a_name_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)

    assert name_of_folder(Path()) == "my-adapter"


# -- What fails at home, before anything is sent --------------------------------------------------


def spoil_weights(folder: Path) -> None:
    (folder / WEIGHTS_FILE).write_bytes(flip_byte(ARCHIVE.files[WEIGHTS_FILE]))


def spoil_manifest(folder: Path) -> None:
    (folder / "vera.json").write_bytes(flip_byte(ARCHIVE.files["vera.json"], 1))


def edit_seed(folder: Path) -> None:
    manifest = ARCHIVE.manifest
    edited = replace(manifest, recipe=replace(manifest.recipe, seed=7), files={})
    (folder / "vera.json").write_bytes(edited.to_bytes())


def remove_all(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def link_weights(folder: Path) -> None:
    (folder / WEIGHTS_FILE).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS_FILE).symlink_to(folder.parent / "elsewhere")


def put_a_pipe(folder: Path) -> None:
    (folder / WEIGHTS_FILE).unlink()
    os.mkfifo(folder / WEIGHTS_FILE)


def make_lora(folder: Path) -> None:
    remove_all(folder)
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 8}))


def make_peft_vera(folder: Path) -> None:
    remove_all(folder)
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "VERA", "r": 8}))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (spoil_weights, "DIGEST_INVALID", "not the file vera.json promises"),
        (spoil_manifest, "MANIFEST_INVALID", "vera.json"),
        (edit_seed, "PROJECTION_MISMATCH", "changed after training"),
        (remove_all, "FILE_MISSING", "holds no adapter"),
        (link_weights, "SOURCE_UNSAFE", "is a link"),
        (put_a_pipe, "SOURCE_UNSAFE", "not a plain file"),
        (
            make_lora,
            "FORMAT_UNSUPPORTED",
            "LORA adapter of PEFT, and the hub keeps VeRA adapters: `vera-hub train --method vera`",
        ),
        (make_peft_vera, "FORMAT_UNSUPPORTED", "no vera.json"),
    ],
)
def test_a_folder_that_is_not_an_adapter_is_never_sent(
    folder: Path, fake: FakeHub, hub: Hub, spoil, code: str, words: str
) -> None:
    spoil(folder)

    with pytest.raises(VeraError, match=words) as error:
        push_folder(hub, folder)

    assert error.value.code == code
    assert fake.requests == []


@pytest.mark.parametrize("config_file", ["{", "[]", '{"peft_type": 3}', "[" * 9999])
def test_a_strange_configuration_does_not_hide_that_there_is_no_adapter(
    folder: Path, hub: Hub, config_file: str
) -> None:
    remove_all(folder)
    (folder / CONFIG_FILE).write_text(config_file)

    with pytest.raises(ArchiveError, match="holds no adapter"):
        push_folder(hub, folder)


def test_without_a_token_nothing_is_sent_and_the_way_to_one_is_named(
    folder: Path, fake: FakeHub, config: Config
) -> None:
    with pytest.raises(Unauthorized, match="vera-hub login") as error:
        push_folder(hub_for(fake, replace(config, token=None)), folder)

    assert error.value.code == "TOKEN_MISSING"
    assert fake.requests == []


def test_a_hub_that_keeps_something_else_is_found_out(folder: Path, fake: FakeHub, hub: Hub, config: Config) -> None:
    fake.change_version = lambda version: version.update(digest=f"sha256:{'0' * 64}")

    with pytest.raises(DigestMismatch, match="do not rely on"):
        push_folder(hub, folder)

    assert not (config.cache / "refs").exists()
