"""A file on its way from another hub, read by everybody who wants it while it comes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Iterable
from io import FileIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool

from hub.domain.relayed import RelayedFile
from hub.errors import HubError, Unavailable

_PIECE_BYTES = 1 << 20
_LOOK_AGAIN_S = 0.02
_SHA256_DIGITS = 64


class Proof:
    """What has been read of a file, and whether the whole is what its digest says."""

    def __init__(self, file: RelayedFile) -> None:
        self._file, self._size = file, 0
        self._hash = hashlib.sha256() if len(file.digest) == _SHA256_DIGITS else hashlib.sha1(usedforsecurity=False)
        if len(file.digest) != _SHA256_DIGITS:  # git's name of a file begins with what it is
            self._hash.update(b"blob %d\0" % file.size_bytes)

    def add(self, piece: bytes) -> None:
        self._hash.update(piece)
        self._size += len(piece)

    @property
    def holds(self) -> bool:
        return self._size == self._file.size_bytes and self._hash.hexdigest() == self._file.digest


class Coming:
    """The file as far as it is here. Its last piece is given to nobody before all of it is proven, so that who reads
    along takes nothing for whole that is not what it should be, and is told of a short one what is wrong."""

    def __init__(self, file: RelayedFile, folder: Path) -> None:
        self.file = file
        folder.mkdir(parents=True, exist_ok=True)
        # Without a name: nothing is left of it when the hub is killed.
        self.copy: BinaryIO = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `end`
        self._lock = Lock()
        self.here = 0
        self.is_over = False
        self.error: HubError | None = None

    def receive(self, pieces: Iterable[bytes]) -> bool:
        """Takes all pieces in. False when they are not the file."""
        proof, written = Proof(self.file), 0
        for piece in pieces:
            proof.add(piece)
            self.copy.write(piece)
            self.copy.flush()
            written += len(piece)
            self.here = max(0, min(written, self.file.size_bytes - _PIECE_BYTES))
        if proof.holds:
            self.here = self.file.size_bytes
        return proof.holds

    def end(self, error: HubError | None = None) -> None:
        """Nothing more comes. Who reads already goes on."""
        with self._lock:
            self.error, self.is_over = error, True
            self.copy.close()

    def reader(self) -> FileIO | None:
        """The copy, to be read at offsets and closed; None when it is over."""
        with self._lock:
            return None if self.is_over else FileIO(os.dup(self.copy.fileno()))


async def read_along(coming: Coming, copy: FileIO, first: int, last: int) -> AsyncIterator[bytes]:
    """The bytes from `first` to `last`, as they come. Raises what ended it before that, and closes the copy."""
    with copy:
        at = first
        while at <= last:
            is_over = coming.is_over
            length = min(coming.here, last + 1) - at
            if length > 0:
                piece = await run_in_threadpool(os.pread, copy.fileno(), min(length, _PIECE_BYTES), at)
                at += len(piece)
                yield piece
            elif is_over:
                raise coming.error or Unavailable(f"{coming.file.path} did not come: ask again.")
            else:
                await asyncio.sleep(_LOOK_AGAIN_S)
