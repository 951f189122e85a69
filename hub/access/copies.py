"""Copies of files that are kept here, read in pieces: none is given that is not what it should be.

A read of the whole is proven by the digest of the file. For a part of it the whole is proven first, once in a process, and
the hash of every piece remembered (32 bytes for 1 MiB): a piece that a disk has changed since is seen when it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from threading import Lock
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool

from hub.access.coming import Proof
from hub.domain.relayed import RelayedFile
from hub.errors import BlobCorrupt
from hub.sending.exchange import silent

if TYPE_CHECKING:
    from hub.storage.shelf import Shelf

_PIECE_BYTES = 1 << 20
FILES = "files"


class Copies:
    """The copies on `shelf` of files of the hub at `origin`. One that turns out to be damaged is removed."""

    def __init__(self, shelf: Shelf, origin: str) -> None:
        self._shelf, self._origin = shelf, origin
        self._hashes: dict[str, list[bytes]] = {}
        self._lock = Lock()

    async def read(self, file: RelayedFile, first: int, last: int) -> AsyncIterator[bytes]:
        """The bytes from `first` to `last`. Raises BlobCorrupt before a wrong one is given, of a whole before its last piece."""
        if (first, last) == (0, file.size_bytes - 1):
            async for piece in self._whole(file):
                yield piece
            return
        hashes = await run_in_threadpool(self._hashes_of, file)
        for number in range(first // _PIECE_BYTES, last // _PIECE_BYTES + 1):
            piece = await run_in_threadpool(self._piece, file, number)
            if hashlib.sha256(piece).digest() != hashes[number]:
                raise await run_in_threadpool(self._removed, file)
            at = number * _PIECE_BYTES
            yield piece[max(first - at, 0) : last + 1 - at]

    def forget(self, name: str) -> None:
        """What was called so on the shelf is not there any more."""
        self._hashes.pop(name, None)

    async def _whole(self, file: RelayedFile) -> AsyncIterator[bytes]:
        proof, pieces = Proof(file), _pieces_in(file)
        for number in range(pieces):
            piece = await run_in_threadpool(self._piece, file, number)
            proof.add(piece)
            if number == pieces - 1 and not proof.holds:
                raise await run_in_threadpool(self._removed, file)
            yield piece

    def _hashes_of(self, file: RelayedFile) -> list[bytes]:
        """The hash of each piece of a copy that is whole. Reads all of it the first time."""
        with self._lock:
            known = self._hashes.get(key_of(file))
            if known is not None:
                return known
            proof, found = Proof(file), list[bytes]()
            for number in range(_pieces_in(file)):
                piece = self._piece(file, number)
                proof.add(piece)
                found.append(hashlib.sha256(piece).digest())
            if not proof.holds:
                raise self._removed(file)
            self._hashes[key_of(file)] = found
            return found

    def _piece(self, file: RelayedFile, number: int) -> bytes:
        at = number * _PIECE_BYTES
        piece = self._shelf.piece(key_of(file), at, min(_PIECE_BYTES, file.size_bytes - at))
        if piece is None:
            raise silent(self._origin, "its copy was just cleared away")
        return piece

    def _removed(self, file: RelayedFile) -> BlobCorrupt:
        self._shelf.remove(key_of(file))
        self.forget(key_of(file))
        return BlobCorrupt(f"The copy of {file.path} was damaged and is gone: ask again.")


def key_of(file: RelayedFile) -> str:
    """What a copy is called on the shelf."""
    return f"{FILES}/{file.digest[:2]}/{file.digest}"


def _pieces_in(file: RelayedFile) -> int:
    return -(-file.size_bytes // _PIECE_BYTES)
