"""A pair that follows no recipe: a file named by its digest, bounded before it is read and proven by what is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.builders import flip_byte, make_archive, make_stored
from vera.archive import inspect, read_folder, write_folder
from vera.errors import AdapterTooLarge, ArchiveError, ProjectionMismatch, ProjectionMissing, RecipeError, VeraError
from vera.projection import Projection, canonical_bytes, check_file, digest_of, prove, rebuild
from vera.stored import PROJECTION_FILE

STORED = make_stored()
RECIPE, DIGEST = STORED.manifest.recipe, STORED.manifest.projection_digest
assert isinstance(STORED.projection, Projection)
PAIR = STORED.projection


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The file of the pair, in the folder of its adapter."""
    write_folder(STORED, tmp_path / "a")
    return tmp_path / "a" / PROJECTION_FILE


def test_the_pair_lies_beside_the_adapter_and_comes_back_bit_for_bit(file: Path) -> None:
    assert file.read_bytes() == b"".join(canonical_bytes(PAIR)) == PAIR.A.tobytes() + PAIR.B.tobytes()
    assert file.stat().st_size == RECIPE.size_bytes

    adapter = read_folder(file.parent)
    proven = prove(RECIPE, DIGEST, source=adapter.projection)

    assert adapter == STORED
    for ours, theirs in zip(proven, PAIR, strict=True):
        assert ours.tobytes() == theirs.tobytes()
        assert not ours.flags.writeable


def test_it_is_no_file_of_the_version(file: Path) -> None:
    assert PROJECTION_FILE not in STORED.files
    assert STORED.size_bytes == sum(map(len, STORED.files.values()))
    with pytest.raises(ArchiveError) as refused:
        inspect({**STORED.files, PROJECTION_FILE: file.read_bytes()})
    assert refused.value.code == "FILE_UNKNOWN"


def test_adapters_of_one_pair_are_one_file(file: Path) -> None:
    other = make_stored(seed=1)
    assert other.manifest.projection_digest == DIGEST
    assert other.manifest.digest != STORED.manifest.digest
    check_file(other.manifest.recipe, DIGEST, file)


def test_a_folder_is_copied_and_replaced_with_its_pair(file: Path) -> None:
    write_folder(read_folder(file.parent), file.parent.parent / "copy")
    assert (file.parent.parent / "copy" / PROJECTION_FILE).read_bytes() == file.read_bytes()

    write_folder(make_archive(), file.parent)

    assert not file.exists()  # it belonged to the adapter that was replaced


# -- What is not as promised ----------------------------------------------------------------------


def refused(file: Path) -> VeraError:
    """Why the pair in `file` is not used; checking the file alone says the same, unless it is about values."""
    with pytest.raises(VeraError) as using:
        prove(RECIPE, DIGEST, source=file)
    with pytest.raises(VeraError) as checking:
        check_file(RECIPE, DIGEST, file)
    if not using.value.code.startswith("TENSOR_"):
        assert using.value.code == checking.value.code
    return using.value


def change(file: Path, how: Callable[[bytes], bytes]) -> None:
    file.write_bytes(how(file.read_bytes()))


@pytest.mark.parametrize("at", [0, 200, -1])
def test_no_bit_of_it_can_change(file: Path, at: int) -> None:
    change(file, lambda data: flip_byte(data, at))

    error = refused(file)

    assert isinstance(error, ProjectionMismatch)
    assert error.facts["expected"] == DIGEST
    assert DIGEST in str(error)
    assert str(error.facts["got"]) in str(error)


@pytest.mark.parametrize(
    "how",
    [lambda data: data[:-1], lambda data: data + b"\0", lambda _: b"", lambda data: 2 * data],
    ids=["a byte short", "a byte long", "empty", "twice"],
)
def test_it_has_exactly_its_size(file: Path, how: Callable[[bytes], bytes]) -> None:
    change(file, how)
    assert refused(file).code == "PROJECTION_MISMATCH"
    assert f"{RECIPE.size_bytes:,}" in str(refused(file))


def a_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [a_link, a_pipe, a_folder])
def test_it_is_a_plain_file(file: Path, spoil: Callable[[Path], None]) -> None:
    spoil(file)
    assert refused(file).code == "SOURCE_UNSAFE"


@pytest.mark.parametrize(
    ("value", "code"), [(np.nan, "TENSOR_NONFINITE"), (-np.inf, "TENSOR_NONFINITE"), (1e5, "TENSOR_RANGE")]
)
def test_values_that_no_adapter_was_trained_with_are_refused_whatever_their_digest(value: float, code: str) -> None:
    spoiled = PAIR.B.copy()
    spoiled[3, 2] = value
    pair = Projection(PAIR.A, spoiled)

    with pytest.raises(ArchiveError) as error:
        prove(RECIPE, digest_of(pair), source=pair)

    assert error.value.code == code


def test_without_the_file_the_error_names_the_digest_and_what_to_do(file: Path) -> None:
    file.unlink()
    adapter = read_folder(file.parent)

    for attempt in (
        lambda: prove(RECIPE, DIGEST, source=adapter.projection),
        lambda: write_folder(adapter, file.parent / "copy"),
    ):
        with pytest.raises(ProjectionMissing) as error:
            attempt()
        assert DIGEST in str(error.value)
        assert "vera-hub pull" in str(error.value)
    with pytest.raises(ProjectionMissing):
        rebuild(RECIPE)


def test_the_budget_holds_before_the_file_is_touched(file: Path) -> None:
    file.unlink()
    with pytest.raises(AdapterTooLarge):
        prove(RECIPE, DIGEST, source=file, budget_bytes=RECIPE.size_bytes - 1)


def test_a_pair_in_memory_of_another_shape_is_refused() -> None:
    with pytest.raises(ProjectionMismatch):
        prove(RECIPE, DIGEST, source=Projection(PAIR.A[:, :-1], PAIR.B))


@pytest.mark.parametrize("edit", [{"seed": 0}, {"rounding": "bfloat16"}], ids=str)
def test_nothing_of_a_stored_pair_is_drawn(edit: dict[str, object]) -> None:
    with pytest.raises(RecipeError):
        replace(RECIPE, **edit)  # type: ignore[arg-type]  # one field of several types
