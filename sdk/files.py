"""Writing files so that a reader sees the old one or the new one, never a part of one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600, lasting: bool = True) -> None:
    """`data` as the file `path`, which is made or replaced in one step; its folder is made too.

    Not `lasting`, it may be empty or damaged once the power was lost, which its readers have to notice.
    """
    with writing_atomically(path, mode=mode, lasting=lasting) as file:
        file.write(data)


@contextlib.contextmanager
def writing_atomically(path: Path, *, mode: int = 0o600, lasting: bool = True) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `path` at the end of the block; when that fails, nothing has changed.

    A process that is killed here leaves at most a `.tmp-` file that nobody reads.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".tmp-{secrets.token_hex(8)}")
    try:
        # Opened once: with mkstemp, which opens it too, a small file takes twice as long. A reader of it needs its name.
        with open(temporary, "xb", opener=_for_its_owner) as file:
            yield file
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_new(path: Path, data: bytes, *, mode: int = 0o600, lasting: bool = True) -> None:
    """`data` as the file `path`, which appears with all its bytes; one that is there already stays as it is.

    A process that is killed here leaves nothing: the file has no name before it is whole. Where the
    system cannot do that, it is `write_atomically`.
    """
    with _nameless(path.parent, data, mode=mode, lasting=lasting) as name:
        if name is None:
            write_atomically(path, data, mode=mode, lasting=lasting)
            return
        with contextlib.suppress(FileExistsError):
            name(path)


def write_under_names(paths: Sequence[Path], data: bytes, *, mode: int = 0o600, lasting: bool = True) -> None:
    """`write_atomically` of one file under several names, which is made once: for what is only ever replaced."""
    with _nameless(paths[0].parent, data, mode=mode, lasting=lasting) as name:
        for path in paths:
            if name is None:
                write_atomically(path, data, mode=mode, lasting=lasting)
                continue
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                name(path)
            except FileExistsError:
                write_atomically(path, data, mode=mode, lasting=lasting)


@contextlib.contextmanager
def _nameless(folder: Path, data: bytes, *, mode: int, lasting: bool) -> Iterator[Callable[[Path], None] | None]:
    """What gives names to a new file in `folder`, which holds `data` and has none; None where the system has no such files."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        fd = os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, mode)
    except (AttributeError, OSError):  # no Linux, or a file system without nameless files
        yield None
        return
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        if lasting:
            os.fsync(fd)
        os.fchmod(fd, mode)
        # Python follows the link to the nameless file only when a folder is given too; an absolute path ignores it.
        yield lambda path: os.link(f"/proc/self/fd/{fd}", path, src_dir_fd=fd, follow_symlinks=True)


def read_bounded(path: Path, max_bytes: int) -> bytes | None:
    """The bytes of the file `path`, or None when it is not there, is no file, or is larger than `max_bytes`."""
    try:
        with opened(path) as file:
            data = file.read(max_bytes + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    return data if len(data) <= max_bytes else None


def opened(path: Path) -> BufferedReader:
    """The file `path`, to read. Raises OSError; FileNotFoundError for a pipe, of which nobody may ever write the other end."""

    def at_once(name: str, flags: int) -> int:
        fd = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        if stat.S_ISREG(os.fstat(fd).st_mode) or stat.S_ISDIR(
            os.fstat(fd).st_mode
        ):  # of a folder `open` itself complains
            return fd
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "Not a file", name)

    return open(path, "rb", opener=at_once)


def _for_its_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
