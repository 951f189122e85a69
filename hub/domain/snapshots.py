"""Adapters as a git-like hub has them: a revision is a commit with files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.models import Version
from hub.db.queries import versions
from hub.domain import blobs
from hub.domain.catalog import find_adapter, find_version, require_served
from hub.domain.git_names import GitNames
from hub.domain.shaping import adapter_view, version_summary
from hub.domain.views import AdapterView, FileView, VersionSummary
from hub.errors import NotFound
from hub.storage.blobs import BlobStore
from vera.errors import RefError
from vera.ref import AdapterRef

MAIN = "main"
_PREFIXES = ("refs/heads/", "refs/tags/")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")


@dataclass(frozen=True)
class Snapshot:
    """A version of an adapter as files at a commit."""

    adapter: AdapterView
    version: VersionSummary
    files: Mapping[str, FileView]

    @property
    def commit(self) -> str:
        return self.version.commit

    def file(self, path: str) -> FileView:
        """Raises NotFound."""
        if path not in self.files:
            raise NotFound(
                f"{self.version.ref} has no file {path[:200]}: it has {', '.join(self.files)}.",
                code="FILE_UNKNOWN",
                commit=self.commit,
            )
        return self.files[path]


def find_snapshot(session: Session, reader: Principal | None, namespace: str, name: str, revision: str) -> Snapshot:
    """The files of the version that `revision` means: `main`, a tag, an alias, a commit or its first digits, or a pin
    with a digest. Raises NotFound, and Conflict where the digest is of another version."""
    version = _find(session, reader, namespace, name, revision)
    files = versions.files_of(session, version.id)
    return Snapshot(
        adapter_view(find_adapter(session, reader, namespace, name)),
        version_summary(version),
        {file.path: FileView(file.path, file.sha256, file.size_bytes) for file in files},
    )


def ref_at(namespace: str, name: str, revision: str) -> AdapterRef:
    """The reference that `revision` makes of an adapter. Raises NotFound for what can be no revision."""
    for prefix in _PREFIXES:
        revision = revision.removeprefix(prefix)
    if revision in (MAIN, "HEAD"):
        return AdapterRef(namespace, name)
    try:
        return AdapterRef.parse(f"{namespace}/{name}@{revision}")
    except RefError as error:
        raise _unknown(namespace, name, revision) from error


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
    going_back = versions.files_until(session, snapshot.version.commit)
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
    """The version and all before it, newest first."""
    adapter = find_adapter(session, reader, snapshot.adapter.namespace, snapshot.adapter.name)
    return tuple(
        version_summary(version)
        for version in versions.all_of(session, adapter.id)
        if version.number <= snapshot.version.version
    )


def _find(session: Session, reader: Principal | None, namespace: str, name: str, revision: str) -> Version:
    adapter = find_adapter(session, reader, namespace, name)
    if not _SHORT_COMMIT.fullmatch(revision):
        return find_version(session, reader, ref_at(namespace, name, revision))
    found = versions.by_commit_prefix(session, adapter.id, revision)
    if len(found) != 1:
        raise _unknown(namespace, name, revision)
    require_served(found[0])
    return found[0]


def _unknown(namespace: str, name: str, revision: str) -> NotFound:
    return NotFound(
        f"{namespace}/{name} has no revision {revision[:100]}: its versions are v1, v2 and so on, and main is the latest.",
        code="VERSION_UNKNOWN",
    )
