"""Blobs as rows of the database."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub.db import session as db
from hub.db.queries import blobs
from hub.storage.blobs import missing, proven, sha256_of


class TableBlobs:
    """A BlobStore in the database: what it keeps is there when the session's transaction commits."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, data: bytes) -> str:
        sha256 = sha256_of(data)
        blobs.insert(self._session, sha256, len(data), data, at=db.now(self._session))
        return sha256

    def get(self, sha256: str) -> bytes:
        stored = blobs.find(self._session, sha256)
        if stored is None or stored.data is None:
            raise missing(sha256)
        return proven(sha256, stored.data)
