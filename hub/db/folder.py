"""The folder an embedded hub lives in, and the lock that keeps a second one out of it."""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.errors import StartRefused

_LOCK_FILE = "hub.lock"
# What whoever makes a database of this folder writes before it has its name, and what SQLite keeps beside it.
_BESIDE = ("-journal", "-wal", "-shm")
_UNFINISHED = re.compile(rf"\.hub(-schema-\w+)?\.db\.[0-9]+({'|'.join(_BESIDE)})?", re.ASCII)

log = logging.getLogger(__name__)


def write_secret(path: Path, secret: str) -> None:
    """Writes a file that its owner alone may read, whole or not at all."""
    fresh = fresh_beside(path)
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_secret(path: Path, *, setting: str) -> str:
    """The secret that a file holds and nothing else, which the setting names. Raises StartRefused."""
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        secret = ""
    if not secret.isascii() or not secret.isprintable() or not secret or " " in secret:
        raise StartRefused(
            f"{setting} is {path}, which holds no token that can be read: write one into it, alone.",
            code="TOKEN_FILE_INVALID",
            exit_code=1,
        )
    return secret


def fresh_beside(path: Path) -> Path:
    """Where this process writes what takes the name of `path` once it is whole."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def take_away(database: Path) -> None:
    """Removes a database file that nobody has open, if it is there, and what SQLite has left beside it."""
    for each in (database, *(Path(f"{database}{suffix}") for suffix in _BESIDE)):
        each.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Has the disk keep what was written to a file, or the names in a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def prepare_folder(folder: Path) -> None:
    """Makes the folder, for its owner alone, when it is not there."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextmanager
def sole_use_of(folder: Path) -> Iterator[int]:
    """Keeps every other hub out of the folder. The lock goes with the process, however it ends, and with those that were
    given the descriptor that this yields. What somebody who was killed in here has left unfinished is taken away: databases
    are made under this lock alone.

    Raises StartRefused when another hub is in there.
    """
    prepare_folder(folder)
    lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _take_away_unfinished(folder)
        yield lock
    except BlockingIOError as error:
        raise StartRefused(
            f"Another hub is running on {folder}: stop it, or choose another folder with --data.",
            code="DATA_DIR_LOCKED",
            exit_code=4,
        ) from error
    finally:
        os.close(lock)


def _take_away_unfinished(folder: Path) -> None:
    for file in [each for each in folder.iterdir() if _UNFINISHED.fullmatch(each.name)]:
        log.warning("%s, which somebody who was ended in the midst had left, was taken away", file)
        file.unlink()
