"""Adapters as a git-like hub has them: a revision is a commit with files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.models import Adapter, Version
from hub.db.queries import versions
from hub.domain import blobs, openings
from hub.domain.catalog import find_adapter, find_version, head_of, require_served
from hub.domain.git_names import GitNames
from hub.domain.openings import EMPTY_COMMIT
from hub.domain.shaping import adapter_view, version_summary
from hub.domain.views import AdapterView, FileView, VersionSummary
from hub.errors import NotFound
from hub.storage.blobs import BlobStore
from vera.errors import RefError
from vera.ref import AdapterRef

MAIN = "main"
_HEADS = (MAIN, "HEAD")
_PREFIXES = ("refs/heads/", "refs/tags/")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")


@dataclass(frozen=True)
class Snapshot:
    """A version of an adapter as files at a commit; without a version, an adapter that waits for its first one."""

    id: str
    is_private: bool
    gate: str | None
    created_at: datetime
    adapter: AdapterView | None = None
    version: VersionSummary | None = None
    files: Mapping[str, FileView] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        return self.version.commit if self.version else EMPTY_COMMIT

    @property
    def ref(self) -> str:
        return self.version.ref if self.version else self.id

    def file(self, path: str) -> FileView:
        """Raises NotFound."""
        if path not in self.files:
            raise NotFound(
                f"{self.ref} has no file {path[:200]}: it has {', '.join(self.files) or 'none'}.",
                code="FILE_UNKNOWN",
                commit=self.commit,
            )
        return self.files[path]


def find_snapshot(session: Session, reader: Principal | None, namespace: str, name: str, revision: str) -> Snapshot:
    """The files of the version that `revision` means: `main`, a tag, an alias, a commit or its first digits, or a pin
    with a digest. Raises NotFound, and Conflict where the digest is of another version."""
    opening = openings.find(session, reader, namespace, name)
    if opening is not None:
        if _plain(revision) not in (*_HEADS, EMPTY_COMMIT):
            raise _unknown(namespace, name, revision)
        return Snapshot(f"{namespace}/{name}", opening.is_private, opening.gate, opening.created_at)
    adapter = find_adapter(session, reader, namespace, name)
    version = _find(session, reader, adapter, revision)
    require_served(version)
    files = versions.files_of(session, version.id)
    return Snapshot(
        f"{namespace}/{name}",
        adapter.is_private,
        adapter.gate,
        adapter.created_at,
        adapter_view(adapter),
        version_summary(version),
        {file.path: FileView(file.path, file.sha256, file.size_bytes) for file in files},
    )


def ref_at(namespace: str, name: str, revision: str) -> AdapterRef:
    """The reference that `revision` makes of an adapter. Raises NotFound for what can be no revision."""
    try:
        return AdapterRef.parse(f"{namespace}/{name}@{_plain(revision)}")
    except RefError as error:
        raise _unknown(namespace, name, revision) from error


def is_main(revision: str) -> bool:
    return _plain(revision) in _HEADS


def git_names(
    session: Session, known: GitNames, objects: BlobStore | None, files: Sequence[FileView]
) -> Mapping[str, str]:
    """What git calls each of `files`, by path."""

    def read(sha256: str) -> bytes:
        return blobs.bytes_of(blobs.locate(session, sha256), objects)

    return {file.path: known.of(file.sha256, lambda sha256=file.sha256: read(sha256)) for file in files}  # type: ignore[misc]  # mypy sees no type in a lambda's default


def last_changes(session: Session, snapshot: Snapshot) -> Mapping[str, VersionSummary]:
    """For each file, the version that gave it the content it has in the snapshot."""
    found: dict[str, VersionSummary] = {}
    going_back = versions.files_until(session, snapshot.commit)
    others: set[str] = set()
    for version, path, sha256 in going_back:
        if path in others:
            continue
        if path in snapshot.files and snapshot.files[path].sha256 == sha256:
            found[path] = version_summary(version)
        else:
            others.add(path)
    return found


def history(session: Session, reader: Principal | None, snapshot: Snapshot) -> tuple[VersionSummary, ...]:
    """The version and all before it that can be had, newest first; nothing before the first one."""
    if snapshot.adapter is None or snapshot.version is None:
        return ()
    adapter = find_adapter(session, reader, snapshot.adapter.namespace, snapshot.adapter.name)
    return tuple(
        version_summary(version)
        for version in versions.all_of(session, adapter.id)
        if version.number <= snapshot.version.version and version.delete_reason is None
    )


def _find(session: Session, reader: Principal | None, adapter: Adapter, revision: str) -> Version:
    namespace, name = adapter.account.name, adapter.name
    if is_main(revision):
        found = [version] if (version := head_of(session, adapter)) else []
    elif _SHORT_COMMIT.fullmatch(revision):
        found = versions.by_commit_prefix(session, adapter.id, revision)
    else:
        found = [find_version(session, reader, ref_at(namespace, name, revision))]
    if len(found) != 1:
        raise _unknown(namespace, name, revision)
    return found[0]


def _plain(revision: str) -> str:
    for prefix in _PREFIXES:
        revision = revision.removeprefix(prefix)
    return revision


def _unknown(namespace: str, name: str, revision: str) -> NotFound:
    return NotFound(
        f"{namespace}/{name} has no revision {revision[:100]}: its versions are v1, v2 and so on, and main is the latest.",
        code="VERSION_UNKNOWN",
    )
