"""Opening a file that a stranger may have prepared: a link, a pipe or a surprise in size is refused before it is read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from vera.errors import ArchiveError


@contextmanager
def open_plain(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """The regular file `path`, open for reading, and its size in bytes.

    Follows no link in the last part of the path. Raises ArchiveError: FILE_MISSING or SOURCE_UNSAFE.
    """
    try:
        # O_NONBLOCK: opening a pipe that nobody writes to must not hang.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ArchiveError(f"There is no {path}.", code="FILE_MISSING", path=str(path)) from error
    except OSError as error:
        what = "is a link" if error.errno == errno.ELOOP else f"cannot be opened ({error.strerror})"
        raise ArchiveError(
            f"{path} {what}: an adapter is made of plain files.", code="SOURCE_UNSAFE", path=str(path)
        ) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise ArchiveError(f"{path} is not a plain file.", code="SOURCE_UNSAFE", path=str(path))
    with os.fdopen(fd, "rb") as file:
        yield file, status.st_size


def read_plain(path: Path, max_bytes: int, *, missing: str, too_large: str = "") -> bytes:
    """The bytes of the regular file `path`. Raises ArchiveError as `open_plain` does, with the sentence `missing` where
    it is not there, and FILE_TOO_LARGE beyond `max_bytes`, which says what to do in the words of `too_large`."""
    try:
        with open_plain(path) as (file, size_bytes):
            # The size is looked at first, and the reading bounded all the same: a file can grow meanwhile.
            data = file.read(max_bytes + 1) if size_bytes <= max_bytes else None
    except ArchiveError as error:
        if error.code != "FILE_MISSING":
            raise
        raise ArchiveError(missing, code="FILE_MISSING", path=str(path)) from error
    if data is None or len(data) > max_bytes:
        got_bytes = max(size_bytes, len(data or b""))
        raise ArchiveError(
            f"{path} has {got_bytes:,} bytes, and {path.name} may have {max_bytes:,}{too_large and ': '}{too_large}.",
            code="FILE_TOO_LARGE",
            path=str(path),
            got_bytes=got_bytes,
            max_bytes=max_bytes,
        )
    return data
