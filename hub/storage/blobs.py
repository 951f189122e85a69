"""What every blob store does, whichever it is."""

from __future__ import annotations

import hashlib
from typing import Protocol

from hub.errors import BlobCorrupt, NotFound


class BlobStore(Protocol):
    """Bytes by their SHA-256 (64 hex digits)."""

    def put(self, data: bytes) -> str:
        """Keeps `data` and gives its hash. Twice is the same as once."""

    def get(self, sha256: str) -> bytes:
        """The bytes with this hash, proven to be them. Raises BlobCorrupt, or NotFound."""


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def proven(sha256: str, data: bytes) -> bytes:
    """`data` again, if it has this hash: disks and networks change bits in silence. Raises BlobCorrupt."""
    if sha256_of(data) != sha256:
        raise BlobCorrupt(
            f"The blob {sha256} was damaged in the hub's storage: tell its operator, who can restore it.", sha256=sha256
        )
    return data


def missing(sha256: str) -> NotFound:
    return NotFound(f"There is no blob {sha256} here: ask for the version again.", code="BLOB_UNKNOWN", sha256=sha256)
