"""Files of any size by a name of their own, which may be gone at any time: copies that can be fetched again.

They lie beside the blobs, in the same object store or in a folder, and neither `admin gc` nor a backup knows them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from typing import BinaryIO, NamedTuple

import obstore
from obstore.exceptions import NotFoundError
from obstore.store import MemoryStore, ObjectStore, from_url

from hub.storage.objects import outages_named

_GONE = (NotFoundError, FileNotFoundError)


class Kept(NamedTuple):
    name: str
    size_bytes: int
    modified_at: datetime


class Shelf:
    """What lies below `prefix` in a store."""

    def __init__(self, store: ObjectStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix

    @classmethod
    def from_url(cls, url: str, prefix: str) -> Shelf:
        """The shelf at s3://…, file:///folder or memory:///, as `ObjectBlobs.from_url` reads them."""
        if url.startswith("memory:"):
            return cls(MemoryStore(), prefix)
        return cls(from_url(url, mkdir=True) if url.startswith("file:") else from_url(url), prefix)

    def put(self, name: str, file: BinaryIO | bytes) -> None:
        """Keeps all of `file`, in the place of what had this name. Raises Unavailable."""
        with outages_named():
            obstore.put(self._store, self._path(name), file)

    def read(self, name: str) -> bytes | None:
        """All of it; None when it is not there. Raises Unavailable."""
        with outages_named():
            try:
                return obstore.get(self._store, self._path(name)).bytes().to_bytes()
            except _GONE:
                return None

    def piece(self, name: str, first: int, length: int) -> bytes | None:
        """Some of it, at least a byte; None when it is not there. Raises Unavailable."""
        with outages_named():
            try:
                return obstore.get_range(self._store, self._path(name), start=first, length=length).to_bytes()
            except _GONE:
                return None

    def size_bytes(self, name: str) -> int | None:
        """None when it is not there. Raises Unavailable."""
        with outages_named():
            try:
                return obstore.head(self._store, self._path(name))["size"]
            except _GONE:
                return None

    def all_below(self, folder: str) -> Iterator[Kept]:
        """What lies in the folder and in those below it, in no order. Raises Unavailable."""
        with outages_named():
            for page in obstore.list(self._store, prefix=self._path(folder)):
                for meta in page:
                    yield Kept(meta["path"].removeprefix(f"{self._prefix}/"), meta["size"], meta["last_modified"])

    def remove(self, name: str) -> None:
        """What is not there is gone already. Raises Unavailable."""
        with outages_named(), suppress(*_GONE):
            obstore.delete(self._store, self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._prefix}/{name}"
