"""A version and its files as one body: a line of JSON that says what follows it, and then the files' bytes, one after another.

    {"version":3,…,"files":[{"path":"vera.json","size_bytes":7012},…]}⏎<bytes><bytes>…

What base64 in JSON would be, without the third that it adds and without its encoding. Nothing in it vouches for itself: the
digest of the version does for the manifest, and the manifest for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vera import strict_json

MEDIA_TYPE = "application/vnd.vera-hub.bundle"
_MAX_LINE_BYTES = 64 << 10


def bundle(said: bytes, files: Mapping[str, bytes]) -> bytes:
    """The body of `files` (path → bytes) and of what is `said` of the version, a JSON object without `files`."""
    listed = strict_json.dumps([{"path": path, "size_bytes": len(data)} for path, data in files.items()])
    return b"".join([said.removesuffix(b"}"), b',"files":', listed, b"}\n", *files.values()])


def unbundle(body: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What is said of the version, and its files. Raises ValueError for what is no such body, or has more or less in it than
    it says."""
    end = body.find(b"\n", 0, _MAX_LINE_BYTES)
    said = strict_json.loads(body[: max(end, 0)])
    listed = said.pop("files", None) if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(listed, list) or not all(map(_is_listed, listed)):
        raise ValueError("its first line does not say which files follow")
    files, at = {}, end + 1
    for each in listed:
        files[each["path"]] = body[at : at + each["size_bytes"]]
        at += each["size_bytes"]
    if at != len(body) or len(files) != len(listed):
        raise ValueError(f"its files are {at - end - 1:,} bytes by its first line, and {len(body) - end - 1:,} follow")
    return said, files


def _is_listed(item: object) -> bool:
    return (
        isinstance(item, dict)
        and type(item.get("path")) is str
        and type(item.get("size_bytes")) is int
        and item["size_bytes"] >= 0
    )
