"""Blobs as objects: S3 and what speaks like it, a folder, or memory, by the store's URL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from threading import BoundedSemaphore
from typing import NamedTuple

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import MemoryStore, ObjectStore, from_url

from hub.errors import BlobCorrupt, Unavailable
from hub.storage.blobs import missing, proven, sha256_of

log = logging.getLogger(__name__)
# Of what a store says: the request, the status and the reason; then may come pages of XML, and the client's own state.
_SAID_CHARACTERS = 600
_CLIENTS_STATE = " Debug source:"
# A hub answers with forty threads, and all else is answered by those that do not wait for the store.
_AT_ONCE = 16
_WAIT_FOR_PLACE_S = 2.0


class StoredObject(NamedTuple):
    sha256: str
    size_bytes: int
    modified_at: datetime


class ObjectBlobs:
    """A BlobStore over an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._places = BoundedSemaphore(_AT_ONCE)

    @classmethod
    def from_url(cls, url: str, *, patience: timedelta | None = None) -> ObjectBlobs:
        """The store at s3://bucket/prefix, file:///folder or memory:///. S3's keys and endpoint come from AWS_… It is asked
        again for as long as `patience`, three minutes unless that is said."""
        if url.startswith("memory:"):
            return cls(MemoryStore())
        if url.startswith("file:"):
            return cls(from_url(url, mkdir=True))
        if patience is None:
            return cls(from_url(url))
        return cls(from_url(url, retry_config={"max_retries": 5, "retry_timeout": patience}))

    def put(self, data: bytes) -> str:
        sha256 = sha256_of(data)
        with self._place(), outages_named():
            try:
                obstore.put(self._store, _key(sha256), data, mode="create")
            except AlreadyExistsError:
                self._mend(sha256, data)
        return sha256

    def get(self, sha256: str) -> bytes:
        with self._place(), outages_named():
            return self._get(sha256)

    def stored(self) -> Iterator[StoredObject]:
        """Every object there is, in no order. Raises Unavailable."""
        with outages_named():
            for page in obstore.list(self._store, prefix="blobs"):
                for meta in page:
                    yield StoredObject(meta["path"].rpartition("/")[2], meta["size"], meta["last_modified"])

    def remove(self, sha256: str) -> None:
        """Takes the object away; one that is not there is gone already."""
        with outages_named(), suppress(NotFoundError, FileNotFoundError):
            obstore.delete(self._store, _key(sha256))

    def _get(self, sha256: str) -> bytes:
        try:
            data = obstore.get(self._store, _key(sha256)).bytes().to_bytes()
        except (NotFoundError, FileNotFoundError) as error:
            raise missing(sha256) from error
        return proven(sha256, data)

    @contextmanager
    def _place(self) -> Iterator[None]:
        """One of those who may wait for the store at a time. Raises Unavailable where none is left after a while."""
        if not self._places.acquire(timeout=_WAIT_FOR_PLACE_S):
            raise _unavailable()
        try:
            yield
        finally:
            self._places.release()

    def _mend(self, sha256: str, data: bytes) -> None:
        """Writes over what stands there when it is not what its name says."""
        try:
            self._get(sha256)
        except BlobCorrupt:
            obstore.put(self._store, _key(sha256), data, mode="overwrite")


def _key(sha256: str) -> str:
    return f"blobs/{sha256[:2]}/{sha256}"


@contextmanager
def outages_named() -> Iterator[None]:
    try:
        yield
    except (BaseError, OSError) as error:
        log.warning("the blob store refused", extra={"said": said_by(error)})
        raise _unavailable() from error


def _unavailable() -> Unavailable:
    return Unavailable("The hub's blob store does not answer: try again in a moment.", code="BLOB_STORE_UNAVAILABLE")


def said_by(error: BaseException) -> str:
    """Why, in one line, for the log and for whoever runs the hub."""
    return " ".join(str(error).split()).partition(_CLIENTS_STATE)[0][:_SAID_CHARACTERS]
