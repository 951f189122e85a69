"""What lies where among files, and which part of one is asked for."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def lying_below(paths: Iterable[str], prefix: str, *, recursive: bool) -> tuple[list[str], list[str]]:
    """The folders and the files below `prefix`, which is nothing or ends with a slash; all, or those directly there."""
    below = [path for path in paths if path.startswith(prefix)]
    inner = [path.removeprefix(prefix) for path in below]
    folders = {"/".join(path.split("/")[: depth + 1]) for path in inner for depth in range(path.count("/"))}
    if not recursive:
        below = [path for path, short in zip(below, inner, strict=True) if "/" not in short]
        folders = {folder for folder in folders if "/" not in folder}
    return [f"{prefix}{folder}" for folder in sorted(folders)], below


def name_of(digests: Mapping[str, str], folder: str) -> str:
    """40 hex digits that are others when anything in the folder is. `digests` are those of all files, by path."""
    below = [(path, digest) for path, digest in digests.items() if path.startswith(f"{folder}/")]
    return hashlib.sha256(repr(below).encode()).hexdigest()[:40]


def part_of(wanted: str | None, size_bytes: int, headers: dict[str, str]) -> tuple[int, int, int]:
    """The status, and the first and the last byte to be given: all of them, or the one range that `wanted` asks for
    (RFC 9110, 14.2: another kind of range is none). A range that is not there is no bytes. Adds to the headers."""
    asked = _RANGE.fullmatch(wanted or "")
    if asked is None or asked[0] == "bytes=-":
        return 200, 0, size_bytes - 1
    if asked[1]:
        first, last = int(asked[1]), min(int(asked[2] or size_bytes), size_bytes - 1)
    else:
        first, last = max(size_bytes - int(asked[2]), 0), size_bytes - 1
    if first > last:
        headers["Content-Range"] = f"bytes */{size_bytes}"
        return 416, 0, -1
    headers["Content-Range"] = f"bytes {first}-{last}/{size_bytes}"
    return 206, first, last
