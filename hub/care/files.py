"""Files of a copy: written through to the disk, and read back only as what they were."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hub.errors import Invalid

_CHUNK = 1 << 20


def keep(path: Path, data: bytes) -> None:
    """Writes a file whose bytes are on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hex digits."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()


def require(path: Path, sha256: str) -> Path:
    """`path`, when that file has this hash. Raises Invalid."""
    got = digest_of(path) if path.is_file() else "nothing: it is not there"
    if got != sha256:
        raise Invalid(
            f"{path} should have the SHA-256 {sha256} and has {got}: the copy is damaged, use another one.",
            code="BACKUP_CORRUPT",
            expected=sha256,
            got=got,
        )
    return path
