"""The folders that adapters and what is made of them are written to: whole or not at all, and over nothing that would be missed."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from vera.errors import ArchiveError
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.projection import PairSource, bytes_of_pair
from vera.stored import PROJECTION_FILE

ADAPTER_FILES = (MANIFEST_FILE, WEIGHTS_FILE, CONFIG_FILE, CARD_FILE)
# What `vera-hub train` leaves beside what it trained, whatever the method.
TRAINING_LOG = "training.jsonl"
LOSS_CURVE = "loss.svg"


def write_files(files: Mapping[str, bytes], folder: Path, *, projection: PairSource | None = None) -> None:
    """`files` (name → bytes) as `folder`, and a stored pair beside them: all of them or nothing.

    An empty folder, or an adapter that stands there, is replaced; a place that holds anything
    else, an adapter with somebody's notes beside it included, is left alone with ArchiveError.
    """
    folder = Path(os.path.abspath(folder))
    check_replaceable(folder, files)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    fresh.mkdir()
    try:
        for name, data in files.items():
            (fresh / name).write_bytes(data)
        if projection is not None:
            with (fresh / PROJECTION_FILE).open("wb") as file:
                file.writelines(bytes_of_pair(projection))
        _swap(fresh, folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def is_adapter_folder(folder: Path) -> bool:
    """Whether `folder` is one this project wrote: an adapter, or a training run of any method.

    A checkpoint of PEFT is somebody else's, and may hold matrices that exist nowhere else.
    """
    return (folder / MANIFEST_FILE).is_file() or (folder / TRAINING_LOG).is_file()


def check_replaceable(folder: Path, files: Collection[str]) -> None:
    """Raises ArchiveError unless writing `files` (names) as `folder` would lose nothing but an older adapter."""
    if not os.path.lexists(folder):
        return
    is_folder = folder.is_dir() and not folder.is_symlink()
    entries = {path.name for path in folder.iterdir()} if is_folder else set()
    if not is_folder or (entries and not is_adapter_folder(folder)):
        raise ArchiveError(
            f"{folder} exists and is not an adapter: choose another place.", code="FOLDER_TAKEN", path=str(folder)
        )
    if strangers := sorted(entries - {*ADAPTER_FILES, PROJECTION_FILE, *files}):
        raise ArchiveError(
            f"{folder} holds {strangers[0]!r}, which would be lost: move it away or choose another place.",
            code="FOLDER_TAKEN",
            path=str(folder),
            found=strangers[:20],
        )


def check_new(folder: Path) -> None:
    """Raises ArchiveError (FOLDER_TAKEN) unless `folder` is a new place or an empty folder, for what replaces nothing."""
    if os.path.lexists(folder) and not (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        raise ArchiveError(
            f"{folder} exists: choose another place for the export.", code="FOLDER_TAKEN", path=str(folder)
        )


def check_writable(folder: Path) -> None:
    """Raises ArchiveError (FOLDER_UNWRITABLE) when nothing can be made where `folder` is to be. Leaves nothing there.

    What takes minutes asks before it begins.
    """
    place = folder.absolute().parent
    while not os.path.lexists(place):
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise ArchiveError(
            f"{folder} cannot be written ({error.strerror}: {place}): choose another place. Nothing was begun.",
            code="FOLDER_UNWRITABLE",
            path=str(folder),
        ) from error


def _swap(fresh: Path, folder: Path) -> None:
    """`fresh` becomes `folder`. What stood there is put back when that fails."""
    if not folder.exists():
        fresh.rename(folder)
        return
    aside = fresh.with_name(f"{fresh.name}-old")
    folder.rename(aside)
    try:
        fresh.rename(folder)
    except BaseException:
        aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
