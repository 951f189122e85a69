"""The files of an adapter: sealed once, the same for ever, and nothing about them changes unnoticed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.builders import flip_byte, make_archive, spoil
from vera.archive import (
    Vectors,
    inspect,
    pack,
    read_folder,
    seal,
    vectors_of,
    write_folder,
)
from vera.errors import ArchiveError, VeraError
from vera.folders import TRAINING_LOG, check_replaceable, is_adapter_folder, write_files
from vera.manifest import CARD_FILE, CONFIG_FILE, DVORA, MANIFEST_FILE, WEIGHTS_FILE

ADAPTER = make_archive()
DTYPES = ["float32", "float16", "bfloat16"]


def error_of(files: dict[str, bytes]) -> VeraError | None:
    try:
        inspect(files)
    except VeraError as error:
        return error
    return None


# -- nothing changes unnoticed --------------------------------------------------------------------


@pytest.mark.parametrize("path", [WEIGHTS_FILE, CONFIG_FILE, CARD_FILE])
def test_no_byte_of_a_file_the_manifest_vouches_for_can_change(path: str) -> None:
    for at in range(len(ADAPTER.files[path])):
        error = error_of(spoil(ADAPTER, path, lambda data, at=at: flip_byte(data, at)))
        assert error is not None, f"byte {at} of {path}"
        assert error.code == "DIGEST_INVALID"


def test_no_byte_of_the_manifest_can_change_under_its_digest() -> None:
    """A changed manifest is refused, or it is another manifest with another digest."""
    for at in range(len(ADAPTER.files[MANIFEST_FILE])):
        files = spoil(ADAPTER, MANIFEST_FILE, lambda data, at=at: flip_byte(data, at))
        assert error_of(files) or inspect(files).manifest.digest != ADAPTER.manifest.digest, f"byte {at}"


@pytest.mark.parametrize("path", list(ADAPTER.files))
def test_no_file_can_be_cut_short_or_grow(path: str) -> None:
    for change in (lambda data: data[:-1], lambda data: data + b"\0", lambda data: b"", lambda data: data[1:]):
        assert error_of(spoil(ADAPTER, path, change)) is not None


def test_files_of_two_adapters_do_not_mix() -> None:
    other = make_archive(seed=1, card="# Another\n")
    for path in (WEIGHTS_FILE, CARD_FILE):
        error = error_of({**ADAPTER.files, path: other.files[path]})
        assert error is not None
        assert error.code == "DIGEST_INVALID"
        assert error.facts["path"] == path


# -- making one -----------------------------------------------------------------------------------


def test_an_adapter_inspects_to_what_was_sealed() -> None:
    assert inspect(ADAPTER.files) == ADAPTER
    assert ADAPTER.card == "# A tiny adapter\n"
    assert ADAPTER.size_bytes == sum(map(len, ADAPTER.files.values()))
    assert set(ADAPTER.files) == {MANIFEST_FILE, WEIGHTS_FILE, CONFIG_FILE, CARD_FILE}
    assert set(ADAPTER.manifest.files) == {CONFIG_FILE, CARD_FILE}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_same_vectors_make_the_same_bytes(dtype: str) -> None:
    vectors = vectors_of(ADAPTER)
    reversed_order = Vectors(
        *(dict(reversed(part.items())) for part in (vectors.lambda_b, vectors.lambda_d, vectors.head))
    )
    assert pack(vectors, dtype=dtype) == pack(reversed_order, dtype=dtype)
    assert make_archive(dtype=dtype).files == make_archive(dtype=dtype).files


def test_float32_vectors_come_back_bit_for_bit() -> None:
    draw = np.random.Generator(np.random.PCG64(3))
    (wide, narrow), rank = [module.name for module in ADAPTER.manifest.modules], 8
    vectors = Vectors(
        lambda_b={wide: draw.standard_normal(12, np.float32), narrow: draw.standard_normal(20, np.float32)},
        lambda_d={name: draw.standard_normal(rank, np.float32) for name in (wide, narrow)},
        head={"head.weight": draw.standard_normal((2, 5), np.float32)},
        magnitude={wide: draw.standard_normal(12, np.float32), narrow: draw.standard_normal(20, np.float32)},
    )

    data, weights, head = pack(vectors)
    manifest = dataclasses.replace(ADAPTER.manifest, method=DVORA, weights=weights, head=head)
    read = vectors_of(seal(manifest, data, "# Mine"))

    for given_part, read_part in zip(vars(vectors).values(), vars(read).values(), strict=True):
        assert {name: array.tobytes() for name, array in given_part.items()} == {
            name: array.tobytes() for name, array in read_part.items()
        }
    assert (weights.vector_bytes, weights.head_bytes) == (4 * (2 * (12 + 20) + 2 * rank), 4 * 2 * 5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_half_precision_halves_the_vectors_and_keeps_the_leading_digits(dtype: str, tolerance: float) -> None:
    half = make_archive(dtype=dtype)
    assert 2 * half.manifest.weights.vector_bytes == ADAPTER.manifest.weights.vector_bytes
    for name, exact in vectors_of(ADAPTER).lambda_b.items():
        # half a unit in the last place of the format: 11 and 8 bits of significand
        assert np.allclose(vectors_of(half).lambda_b[name], exact, rtol=tolerance, atol=1e-7)


def test_packing_half_precision_twice_changes_nothing() -> None:
    for dtype in ("float16", "bfloat16"):
        half = make_archive(dtype=dtype)
        assert pack(vectors_of(half), dtype=dtype)[0] == half.files[WEIGHTS_FILE]


def test_another_card_is_another_version_of_the_same_weights() -> None:
    renamed = make_archive(card="# A better card\n")
    assert renamed.card == "# A better card\n"
    assert renamed.manifest.digest != ADAPTER.manifest.digest
    assert renamed.manifest.weights == ADAPTER.manifest.weights
    assert renamed.files[WEIGHTS_FILE] == ADAPTER.files[WEIGHTS_FILE]
    assert seal(renamed.manifest, renamed.files[WEIGHTS_FILE], ADAPTER.card) == ADAPTER


@given(card=st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_any_text_can_be_the_card(card: str) -> None:
    assert seal(ADAPTER.manifest, ADAPTER.files[WEIGHTS_FILE], card).card == card


def test_a_card_may_have_a_mebibyte(tmp_path: Path) -> None:
    longest = "x" * (1 << 20)
    write_folder(make_archive(card=longest), tmp_path / "a")
    assert read_folder(tmp_path / "a").card == longest
    with pytest.raises(VeraError):
        make_archive(card=longest + "x")


def test_an_unsealed_folder_is_the_manifest_and_the_weights_alone() -> None:
    bare = {path: ADAPTER.files[path] for path in (MANIFEST_FILE, WEIGHTS_FILE)}
    assert inspect(bare, sealed=False).manifest == ADAPTER.manifest
    with pytest.raises(ArchiveError) as refused:
        inspect(bare)
    assert refused.value.code == "FILE_MISSING"


# -- folders --------------------------------------------------------------------------------------


def test_a_folder_reads_back_as_it_was_written(tmp_path: Path) -> None:
    write_folder(ADAPTER, tmp_path / "deep" / "my-adapter")
    assert read_folder(tmp_path / "deep" / "my-adapter") == ADAPTER
    assert is_adapter_folder(tmp_path / "deep" / "my-adapter")
    assert not is_adapter_folder(tmp_path / "deep")


def test_an_edited_card_is_sealed_anew_when_the_folder_is_read(tmp_path: Path) -> None:
    write_folder(ADAPTER, tmp_path / "a")
    (tmp_path / "a" / CARD_FILE).write_text("# Edited\n")

    read = read_folder(tmp_path / "a")

    assert read == make_archive(card="# Edited\n")
    assert read.manifest.weights.sha256 == ADAPTER.manifest.weights.sha256
    assert read.manifest.digest != ADAPTER.manifest.digest


def test_a_folder_without_a_card_or_a_configuration_is_an_adapter_all_the_same(tmp_path: Path) -> None:
    write_folder(ADAPTER, tmp_path / "a")
    (tmp_path / "a" / CARD_FILE).unlink()
    (tmp_path / "a" / CONFIG_FILE).write_text("not ours")
    assert read_folder(tmp_path / "a") == make_archive(card="")


def test_what_is_not_of_the_adapter_is_not_read(tmp_path: Path) -> None:
    write_files({**ADAPTER.files, "training.json": b"{}"}, tmp_path / "a")
    (tmp_path / "a" / ".env").write_text("TOKEN=secret")
    assert read_folder(tmp_path / "a") == ADAPTER


def test_writing_again_replaces_the_adapter(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    write_files({**ADAPTER.files, "training.json": b"1"}, folder)
    newer = make_archive(seed=1)

    write_files({**newer.files, "training.json": b"2"}, folder)

    assert read_folder(folder) == newer
    assert (folder / "training.json").read_bytes() == b"2"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "files",
    [{MANIFEST_FILE: b"{}"}, {CONFIG_FILE: b"{}", WEIGHTS_FILE: b"", TRAINING_LOG: b""}],
    ids=["unsealed", "a LoRA of vera-hub train"],
)
def test_what_this_project_wrote_is_replaced(tmp_path: Path, files: dict[str, bytes]) -> None:
    write_files(files, tmp_path / "a")
    write_files({**ADAPTER.files, TRAINING_LOG: b""}, tmp_path / "a")
    assert read_folder(tmp_path / "a") == ADAPTER


def test_a_checkpoint_of_peft_is_not_replaced(tmp_path: Path) -> None:
    write_files({CONFIG_FILE: b"{}", WEIGHTS_FILE: b"matrices that exist nowhere else"}, tmp_path / "a")
    with pytest.raises(ArchiveError, match="choose another place"):
        write_folder(ADAPTER, tmp_path / "a")
    assert (tmp_path / "a" / WEIGHTS_FILE).read_bytes() == b"matrices that exist nowhere else"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    write_folder(ADAPTER, tmp_path / "a")
    assert read_folder(tmp_path / "a") == ADAPTER


@pytest.mark.parametrize("name", ["notes.txt", ".git/HEAD", "checkpoint-100/adapter_model.safetensors"])
@pytest.mark.parametrize("has_adapter", [True, False], ids=["beside an adapter", "alone"])
def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path: Path, name: str, has_adapter: bool) -> None:
    folder = tmp_path / "a"
    if has_adapter:
        write_folder(ADAPTER, folder)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")

    with pytest.raises(ArchiveError, match="another place") as refused:
        write_folder(make_archive(seed=1), folder)

    assert refused.value.code == "FOLDER_TAKEN"
    assert (folder / name).read_text() == "mine"
    assert not has_adapter or read_folder(folder) == ADAPTER
    assert os.listdir(tmp_path) == ["a"]


def test_what_writing_would_lose_is_known_beforehand(tmp_path: Path) -> None:
    """An hour of training is not lost to a folder that turns out to be taken."""
    write_files({**ADAPTER.files, "training.json": b"1"}, tmp_path / "a")
    check_replaceable(tmp_path / "a", ["training.json"])
    check_replaceable(tmp_path / "new", [])
    with pytest.raises(ArchiveError, match=r"training\.json") as refused:
        check_replaceable(tmp_path / "a", [])
    assert refused.value.facts["found"] == ["training.json"]


def test_a_readme_alone_is_somebodys_project(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / CARD_FILE).write_text("my project")
    with pytest.raises(ArchiveError):
        write_folder(ADAPTER, tmp_path / "a")
    assert (tmp_path / "a" / CARD_FILE).read_text() == "my project"


@pytest.mark.parametrize("target", ["file", "adapter", "nowhere"])
def test_a_file_or_a_link_is_never_replaced(tmp_path: Path, target: str) -> None:
    write_folder(ADAPTER, tmp_path / "adapter")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / target)
    for place in ("file", "link"):
        with pytest.raises(ArchiveError) as refused:
            write_folder(make_archive(seed=1), tmp_path / place)
        assert refused.value.code == "FOLDER_TAKEN"
    assert read_folder(tmp_path / "adapter") == ADAPTER
    assert sorted(os.listdir(tmp_path)) == ["adapter", "file", "link"]


def test_a_write_that_fails_half_way_leaves_everything_as_it_was(tmp_path: Path) -> None:
    write_folder(ADAPTER, tmp_path / "a")
    for place in ("a", "new"):
        with pytest.raises(OSError):  # noqa: PT011  # the file system's own words
            write_files({**make_archive(seed=1).files, "no/such/folder": b""}, tmp_path / place)
    assert read_folder(tmp_path / "a") == ADAPTER
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("interruption", [OSError("disk"), KeyboardInterrupt()], ids=["failure", "Ctrl-C"])
@pytest.mark.parametrize("failing_rename", [1, 2])
def test_a_replacement_that_fails_puts_the_old_adapter_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException, failing_rename: int
) -> None:
    """The first rename sets the old adapter aside, the second moves the new one in."""
    write_folder(ADAPTER, tmp_path / "a")
    renames, rename = [], Path.rename

    def fails_once(path: Path, target: Path) -> Path:
        renames.append(target)
        if len(renames) == failing_rename:
            raise interruption
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails_once)
    with pytest.raises(type(interruption)):
        write_folder(make_archive(seed=1), tmp_path / "a")

    assert read_folder(tmp_path / "a") == ADAPTER
    assert os.listdir(tmp_path) == ["a"]


def test_a_folder_is_as_private_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_folder(ADAPTER, tmp_path / "a")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
