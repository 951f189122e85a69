"""Base models of another hub, as that hub describes them: a commit, and what it has of files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from hub.errors import Forbidden, NotFound

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_FILES = 20_000
_MAX_PATH = 500
# What of a description is passed on. What belongs to that hub's own stores and machines is not.
_PASSED_ON = frozenset(
    "_id author baseModels cardData config createdAt disabled downloads gated id lastModified library_name likes "
    "mask_token modelId pipeline_tag private safetensors sha tags transformersInfo usedStorage".split()
)


@dataclass(frozen=True)
class RelayedFile:
    """A file and what proves it: `digest` is its SHA-256, or git's name of it (40 digits) where that hub says no more.
    `pointer` is git's name and size of the note that stands in its place in git, for a large one."""

    path: str
    size_bytes: int
    digest: str
    pointer: tuple[str, int] | None = None

    @property
    def git_name(self) -> str:
        return self.pointer[0] if self.pointer else self.digest


@dataclass(frozen=True)
class RelayedModel:
    """A model at a commit. `told` is what else that hub says of it."""

    id: str
    commit: str
    told: Mapping[str, Any]
    files: Mapping[str, RelayedFile]

    def file(self, path: str) -> RelayedFile:
        """Raises NotFound."""
        if path not in self.files:
            raise NotFound(
                f"{self.id} has no file {path[:200]} at {self.commit[:7]}.", code="FILE_UNKNOWN", commit=self.commit
            )
        return self.files[path]


def is_allowed(name: str, patterns: tuple[str, ...]) -> bool:
    """True for the name of a model that one of the patterns means, capitals or not."""
    lower = name.lower()
    return _NAME.fullmatch(name) is not None and any(fnmatchcase(lower, each.lower()) for each in patterns)


def is_commit(revision: str) -> bool:
    return _COMMIT.fullmatch(revision) is not None


def read_model(data: bytes, origin: str) -> RelayedModel:
    """The model that an answer describes. Raises ValueError for one that does not, and Forbidden for a model that is
    not everybody's."""
    told = json.loads(data)
    if not isinstance(told, dict) or not isinstance(told.get("id"), str) or not is_commit(str(told.get("sha"))):
        raise ValueError("it names no commit")
    if told.get("private") or told.get("gated") or told.get("disabled"):
        raise Forbidden(
            f"{origin} gives {told['id'][:200]} to whom its owners let in, so it is not passed on: fetch it there.",
            code="BASE_GATED",
        )
    rows = told.get("siblings")
    if not isinstance(rows, list) or len(rows) > _MAX_FILES:
        raise ValueError(f"it has no list of at most {_MAX_FILES:,} files")
    files = [_read_file(row) for row in rows]
    passed_on = {name: value for name, value in told.items() if name in _PASSED_ON}
    return RelayedModel(told["id"], told["sha"], passed_on, {file.path: file for file in files})


def _read_file(row: Any) -> RelayedFile:
    try:
        path, git_name, large = row["rfilename"], row["blobId"], row.get("lfs")
        size_bytes, digest = (large["size"], large["sha256"]) if large else (row["size"], git_name)
        pointer = (git_name, int(large.get("pointerSize", 0))) if large else None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("a file of it has no path, no size or no hash") from error
    is_named = isinstance(path, str) and 0 < len(path) <= _MAX_PATH and path.isprintable() and _is_below(path)
    is_proven = isinstance(digest, str) and (_SHA256 if large else _COMMIT).fullmatch(digest) is not None
    if not is_named or not is_proven or not is_commit(str(git_name)) or type(size_bytes) is not int or size_bytes < 0:
        raise ValueError(f"a file of it is described as {str(row)[:200]}")
    return RelayedFile(path, size_bytes, digest, pointer)


def _is_below(path: str) -> bool:
    return not any(part in ("", ".", "..") for part in path.split("/")) and "\\" not in path
