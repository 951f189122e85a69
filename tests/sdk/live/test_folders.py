"""An adapter in a folder: the same proofs as one of a hub, without a hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import sdk
from sdk.bases import KnownBase, remember
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import LockMismatch, NotFound
from sdk.finding import parse
from sdk.locking import Lock
from tests.builders import flip_byte
from tests.sdk.commands import run
from tests.sdk.fakes import FakeHub, hub_for, serve
from tests.sdk.live.published import output_of
from tests.tiny import load_tiny_bert, write_tiny_bert
from tests.tiny_adapters import make_tiny, with_stored_pair
from vera import archive as archives
from vera.errors import ArchiveError, BaseMismatch, BaseUnreadable, ProjectionMismatch, ProjectionMissing, RefError
from vera.fingerprint import BaseFingerprint
from vera.manifest import WEIGHTS_FILE
from vera.ref import AdapterRef
from vera.stored import PROJECTION_FILE

# Where nothing listens.
NO_HUB = "http://127.0.0.1:9"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mine(here: Path, tiny_base: BaseFingerprint) -> Path:
    """`my-adapter` in the current folder: the very files of demo/a@v1."""
    archives.write_folder(make_tiny(tiny_base, seed=1), here / "my-adapter")
    return here / "my-adapter"


@pytest.fixture
def nowhere(config: Config) -> tuple[FakeHub, Hub]:
    """A hub that knows nothing, and counts who asks."""
    nobody = FakeHub()
    return nobody, hub_for(nobody, config)


@pytest.mark.parametrize("text", ["./my-adapter", "my-adapter", "../{here}/my-adapter", "{mine}"])
def test_a_folder_is_told_from_a_reference_by_how_it_is_written(mine: Path, here: Path, text: str) -> None:
    assert parse(text.format(here=here.name, mine=mine)) == mine
    assert parse(Path("my-adapter")) == mine


def test_owner_and_name_is_a_reference_whatever_lies_here_and_the_refusal_mentions_the_folder(
    here: Path, hub: Hub, tiny_base: BaseFingerprint
) -> None:
    archives.write_folder(make_tiny(tiny_base), here / "out" / "topics")

    assert parse("out/topics") == AdapterRef("out", "topics")
    with pytest.raises(NotFound, match=r"There is a folder out/topics here: write \./out/topics for it"):
        sdk.verify(None, "out/topics", hub=hub)
    assert sdk.verify(None, "./out/topics", hub=hub).ref == str(here / "out/topics")
    with pytest.raises(RefError):
        parse("no-such-folder")


def test_it_answers_as_what_it_was_published_as_and_no_hub_is_asked(
    mine: Path, tiny_folder: Path, hub: Hub, nowhere: tuple[FakeHub, Hub]
) -> None:
    nobody, silent = nowhere
    loaded = sdk.load(tiny_folder, "./my-adapter", hub=silent)

    assert torch.equal(output_of(loaded), output_of(sdk.load(load_tiny_bert(tiny_folder), "demo/a@v1", hub=hub)))
    assert loaded.vera.ref == str(mine)
    assert loaded.vera.base.kind == "content"
    assert nobody.requests == []


def test_on_a_model_it_goes_by_its_path_beside_references(mine: Path, model: Any, hub: Hub) -> None:
    plain = output_of(model)
    sdk.load_many(model, ["demo/b@v1", Path("my-adapter")], hub=hub)
    adapted = output_of(model)

    with sdk.rows(model, ["./my-adapter", None]):
        mixed = output_of(model)
    sdk.activate(model, "demo/b")
    sdk.activate(model, mine)

    assert torch.equal(output_of(model), adapted)
    torch.testing.assert_close(mixed, torch.stack([adapted[0], plain[1]]))
    sdk.unload(model, "./my-adapter")
    assert torch.equal(output_of(model), plain)


def test_what_is_proven_of_it_is_what_a_push_would_publish(
    mine: Path, tiny_folder: Path, published: FakeHub, nowhere: tuple[FakeHub, Hub]
) -> None:
    nobody, silent = nowhere
    proven = sdk.verify(tiny_folder, "./my-adapter", hub=silent)

    assert proven.digest == published.versions["demo/a"][0].manifest.digest
    assert proven.is_complete
    assert {file.what: file.how.split("bytes ")[1] for file in proven.files} == {
        WEIGHTS_FILE: "as promised",
        **dict.fromkeys(
            ("README.md", "adapter_config.json", "vera.json"), "as a push of the folder would publish them"
        ),
    }
    (mine / "README.md").write_text("# Mine\n")
    assert sdk.verify(None, mine, hub=silent).digest != proven.digest
    assert nobody.requests == []


def test_damaged_weights_an_edited_seed_and_another_base_are_refused(
    mine: Path, here: Path, tiny_base: BaseFingerprint, tiny_folder: Path, nowhere: tuple[FakeHub, Hub]
) -> None:
    honest, silent = make_tiny(tiny_base, seed=1), nowhere[1]
    edited = replace(honest.manifest, recipe=replace(honest.manifest.recipe, seed=99))
    archives.write_folder(archives.seal(edited, honest.files[WEIGHTS_FILE], ""), here / "edited")
    other = write_tiny_bert(here / "other", seed=1)
    for base, folder, error in (
        (tiny_folder, "./edited", ProjectionMismatch),
        (other, "./my-adapter", BaseMismatch),
        (load_tiny_bert(tiny_folder), "./edited", ProjectionMismatch),
        (load_tiny_bert(other), "./my-adapter", BaseMismatch),
    ):
        for prove in (sdk.verify, sdk.load):
            remember(KnownBase("tiny", tiny_folder, tiny_base.value), config=silent.config)
            with pytest.raises(error):
                prove(base, folder, hub=silent)

    (mine / WEIGHTS_FILE).write_bytes(flip_byte(honest.files[WEIGHTS_FILE]))
    with pytest.raises(ArchiveError) as refused:
        sdk.load(tiny_folder, "./my-adapter", hub=silent)
    assert refused.value.code == "DIGEST_INVALID"


def test_a_live_base_needs_to_be_known_to_this_machine(
    mine: Path, model: Any, tiny_folder: Path, tiny_base: BaseFingerprint, nowhere: tuple[FakeHub, Hub]
) -> None:
    silent = nowhere[1]
    with pytest.raises(BaseUnreadable, match="vera-hub base add PATH") as unknown:
        sdk.load(model, mine, hub=silent)
    assert unknown.value.code == "BASE_NOT_HERE"

    remember(KnownBase("tests/tiny-bert", tiny_folder, tiny_base.value), config=silent.config)

    assert sdk.load(model, mine, hub=silent).vera.base.kind == "content"


def test_a_stored_pair_lies_beside_the_vectors(here: Path, tiny_base: BaseFingerprint, tiny_folder: Path) -> None:
    drawn = make_tiny(tiny_base, seed=1)
    archives.write_folder(with_stored_pair(drawn), here / "stored")
    archives.write_folder(drawn, here / "drawn")

    stored = output_of(sdk.load(tiny_folder, "./stored"))

    torch.testing.assert_close(stored, output_of(sdk.load(tiny_folder, "./drawn")))
    (here / "stored" / PROJECTION_FILE).unlink()
    for prove in (sdk.load, sdk.verify):
        with pytest.raises(ProjectionMissing):
            prove(tiny_folder, "./stored")


def test_a_lock_pins_no_folder(mine: Path, here: Path, tiny_folder: Path) -> None:
    Lock().write(here / "vera.lock")

    with pytest.raises(LockMismatch, match="push the folder") as refused:
        sdk.load(tiny_folder, "./my-adapter", locked=True)
    assert refused.value.code == "LOCK_MISSING"


def test_a_folder_is_packed(mine: Path, model: Any, hub: Hub, tiny_base: BaseFingerprint, here: Path) -> None:
    archives.write_folder(make_tiny(tiny_base, seed=7, pair_seed=1), here / "second")
    plain = output_of(sdk.load(model, "./my-adapter", hub=hub))

    with sdk.pack(model, "./my-adapter", capacity=4) as packed:
        packed.load("./second")
        packed.use(["./my-adapter", "./second"])
        mixed = output_of(model)

    torch.testing.assert_close(mixed[0], plain[0])
    assert not torch.allclose(mixed[1], plain[1])


def test_the_commands_take_it_and_no_hub_runs(
    mine: Path, here: Path, tiny_base: BaseFingerprint, tiny_folder: Path
) -> None:
    archives.write_folder(make_tiny(tiny_base, seed=2), here / "second")
    base = str(tiny_folder)

    proven = run(NO_HUB, "verify", "./my-adapter", "--base", base)
    shown = run(NO_HUB, "info", "my-adapter")
    compared = run(NO_HUB, "diff", "./my-adapter", "./second")
    exported = run(NO_HUB, "export", "./my-adapter", "--base", base, "--merged", "merged")

    for result in (proven, shown, compared, exported):
        assert result.exit_code == 0, result.output
    assert "every byte of" in proven.stdout
    assert str(mine) in shown.stdout
    assert "vectors differ" in compared.stdout
    assert (here / "merged" / "model.safetensors").is_file()


def test_a_hub_evaluates_no_folder_and_the_refusal_says_what_does(mine: Path) -> None:
    result = run(NO_HUB, "eval", "./my-adapter", "--suite", "demo/topics")

    assert (result.exit_code, "--local ./my-adapter" in result.stderr) == (4, True)


def test_a_folder_that_is_not_there_is_said_to_be_missing(here: Path) -> None:
    result = run(NO_HUB, "verify", "./nope")

    assert result.exit_code == 1
    assert f"There is no folder {here / 'nope'}" in result.stderr


def test_of_several_hubs_each_is_asked_for_the_bases_of_its_own_adapters(
    published: FakeHub, tiny_base: BaseFingerprint, model: Any, nowhere: tuple[FakeHub, Hub]
) -> None:
    nobody, first = nowhere
    with serve(published) as url:
        sdk.load(model, f"vera://{url.removeprefix('http://')}/demo/a@v1", hub=first)

    assert f"GET /api/v1/bases/{tiny_base.value}" in published.paths
    assert nobody.requests == []
