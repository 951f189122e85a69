"""Drafts: commits over a git-like wire that make no version, and are kept all the same.

A draft stands on a version, and has what lies beside its files; or on none, while there is no adapter yet, and has
everything. It is no version: it has no number, is in no list, and nothing but that wire gives it out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Draft
from hub.db.queries import drafts
from hub.domain import blobs
from hub.domain.claiming import NO_QUOTA, Quota, require_bytes
from hub.domain.views.versions import FileView
from hub.errors import Conflict, Invalid, TooLarge
from hub.storage.blobs import sha256_of
from vera.archive import MAX_BYTES

MAX_FILE_BYTES = 16 << 20
MAX_TREE_BYTES = 64 << 20
MAX_FILES = 200
MAX_DRAFTS = 200

# What git reads, and no program that loads an adapter.
ATTRIBUTES_FILE = ".gitattributes"
_ATTRIBUTES = b"* -text\n"
_MAX_PATH, _MAX_DEPTH = 255, 20
_PICKLES = re.compile(rb"\x80[\x01-\x05]")
# An archive of torch.save has its pickle first, under this name.
_ZIP, _PICKLED = b"PK\x03\x04", b"/data.pkl"
_SAMPLE_BYTES = 512


@dataclass(frozen=True)
class Loose:
    """The files of a draft: those that are stored already, and the bytes of those that are new."""

    kept: Mapping[str, FileView]
    new: Mapping[str, bytes]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.kept.values()) + sum(map(len, self.new.values()))


def check_path(path: str) -> None:
    """Raises Invalid for what can be no file of a repository on every machine."""
    parts = path.split("/")
    is_fine = path.isprintable() and "\\" not in path and len(path) <= _MAX_PATH and len(parts) <= _MAX_DEPTH
    if not is_fine or any(part in ("", ".", "..") or part.lower() == ".git" or len(part) > 200 for part in parts):
        raise Invalid(
            f"{path[:200]!r} can be no file here: write {_MAX_DEPTH} names at most with / between them, {_MAX_PATH} characters, "
            "and neither '..', '.git' nor '\\' among them.",
            code="PATH_INVALID",
            path=path[:200],
        )


def is_pickle(beginning: bytes) -> bool:
    """True for bytes that Python would run when it opens them, as far as their first 512 tell."""
    sample = beginning[:_SAMPLE_BYTES]
    return bool(_PICKLES.match(sample)) or (sample.startswith(_ZIP) and _PICKLED in sample)


def why_not_kept(path: str, size_bytes: int, beginning: bytes) -> str | None:
    """Why this hub does not keep the file beside an adapter; None when it does, or when it is one of an adapter's own."""
    if path in MAX_BYTES:
        return None
    if is_pickle(beginning):
        return "a pickle, which runs code when it is opened"
    if size_bytes > MAX_FILE_BYTES:
        return f"larger than {MAX_FILE_BYTES >> 20} MiB"
    return None


def check_loose(loose: Loose) -> None:
    """Raises Invalid and TooLarge for what is not kept as a draft."""
    for path, data in loose.new.items():
        why = why_not_kept(path, len(data), data)
        if why is not None:
            raise Invalid(
                f"{path} is {why}, and is not kept here: leave it out (`hf upload --exclude`, `ignore_patterns`).",
                code="FILE_NOT_KEPT",
                path=path,
            )
    count = len(loose.kept.keys() | loose.new.keys())
    if count > MAX_FILES or loose.size_bytes > MAX_TREE_BYTES:
        raise TooLarge(
            f"With this commit the adapter would have {count:,} files of {loose.size_bytes:,} bytes beside its versions, "
            f"and may have {MAX_FILES} of {MAX_TREE_BYTES:,}: leave some out.",
            code="DRAFT_TOO_LARGE",
            limit=MAX_TREE_BYTES,
        )
    _require_no_folder(loose)


def begin(session: Session, principal: Principal, adapter: Adapter) -> Draft:
    """The first commit of an adapter that was just made: what git needs to know, and nothing else."""
    return add(session, principal, adapter, Loose({}, {ATTRIBUTES_FILE: _ATTRIBUTES}), message="initial commit")


def add(
    session: Session,
    principal: Principal,
    adapter: Adapter,
    loose: Loose,
    *,
    message: str,
    parent: str | None = None,
    beneath_id: int | None = None,
    is_main: bool = True,
    quota: Quota = NO_QUOTA,
    outside: Mapping[str, datetime] | None = None,
    may_exceed: bool = False,
) -> Draft:
    """Keeps a draft. `outside` names the blobs that are in the object store already. Raises Conflict where there are
    too many, unless this one `may_exceed`, and Forbidden where its owner has no room left."""
    if not may_exceed and drafts.count(session, adapter.id) >= MAX_DRAFTS:
        raise Conflict(
            f"There are {MAX_DRAFTS} drafts of this adapter, and more are not kept: make one of them "
            "(`super_squash_history`), or commit the whole adapter at once.",
            code="DRAFTS_TOO_MANY",
            limit=MAX_DRAFTS,
        )
    at = db.now(session)
    hashes = {path: sha256_of(data) for path, data in sorted(loose.new.items())}
    if hashes:
        blobs.record_all(session, {sha256: loose.new[path] for path, sha256 in hashes.items()}, outside or {})
    files = {path: (file.sha256, file.size_bytes) for path, file in loose.kept.items()}
    files |= {path: (sha256, len(loose.new[path])) for path, sha256 in hashes.items()}
    said = json.dumps([adapter.id, beneath_id, parent, message, at.isoformat(), sorted(files.items())])
    draft = Draft(
        adapter_id=adapter.id,
        beneath_id=beneath_id,
        commit=hashlib.sha256(said.encode()).hexdigest()[:40],
        parent=parent,
        is_main=is_main,
        message=message,
        created_by_id=principal.account_id,
        created_at=at,
    )
    drafts.add(session, draft, files)
    require_bytes(session, adapter.account_id, quota)
    return draft


def _require_no_folder(loose: Loose) -> None:
    paths = loose.kept.keys() | loose.new.keys()
    folders = {"/".join(path.split("/")[:depth]) for path in paths for depth in range(1, path.count("/") + 1)}
    if both := sorted((paths | MAX_BYTES.keys()) & folders):
        raise Invalid(f"{both[0]} would be a file and a folder at once.", code="PATH_INVALID", path=both[0])
