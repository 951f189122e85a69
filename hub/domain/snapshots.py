"""Adapters as a git-like hub has them: a revision is a commit with files."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Draft, Version
from hub.db.queries import drafts, versions
from hub.domain import blobs, openings
from hub.domain.catalog import find_adapter, find_version, head_of, require_given, require_served
from hub.domain.git_names import GitNames
from hub.domain.openings import EMPTY_COMMIT
from hub.domain.shaping import adapter_view, version_summary
from hub.domain.views.adapters import AdapterView
from hub.domain.views.versions import CommitView, FileView, VersionSummary
from hub.errors import NotFound
from hub.storage.blobs import BlobStore
from vera.errors import RefError
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.ref import AdapterRef

MAIN = "main"
_HEADS = (MAIN, "HEAD")
_BRANCHES = "refs/heads/"
_PREFIXES = (_BRANCHES, "refs/tags/")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,39}")


@dataclass(frozen=True)
class Snapshot:
    """Files at a commit: a version's, or a draft's with those of the version it stands on. Without a version it is of
    an adapter that waits, or waited then, for its first one."""

    id: str
    is_private: bool
    gate: str | None
    created_at: datetime
    adapter: AdapterView | None = None
    version: VersionSummary | None = None
    files: Mapping[str, FileView] = field(default_factory=dict)
    draft: CommitView | None = None
    # Those of the files that are the draft's own.
    loose: frozenset[str] = frozenset()

    @property
    def commit(self) -> str:
        if self.draft is not None:
            return self.draft.commit
        return self.version.commit if self.version else EMPTY_COMMIT

    @property
    def ref(self) -> str:
        if self.draft is not None:
            return f"{self.id} at {self.draft.commit[:7]}"
        return self.version.ref if self.version else self.id

    @property
    def missing(self) -> str:
        """What it has not that an adapter has, in words."""
        return missing_of(self.files)

    def is_loose(self, file: FileView) -> bool:
        """True for a file that lies beside the version, or where there is none."""
        return file.path in self.loose

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
    """The files that `revision` means: those of `main`, a tag, an alias, a branch, a commit or its first digits, or a
    pin with a digest. Raises NotFound, and Conflict where the digest is of another version."""
    opening = openings.find(session, reader, namespace, name)
    adapter = opening or find_adapter(session, reader, namespace, name)
    version, draft = (None, None) if opening else _find_version(session, reader, adapter, revision)
    if version is None:
        draft = find_draft(session, adapter, revision)
    is_empty = opening is not None and draft is None and _plain(revision) in (*_HEADS, EMPTY_COMMIT)
    if version is None and draft is None and not is_empty:
        named = find_named_version(session, adapter, revision)
        if named is None:
            raise _unknown(namespace, name, revision)
        version = named
    if version is None and draft is not None and draft.beneath_id is not None:
        version = versions.by_id(session, draft.beneath_id)
    if version is not None:
        require_served(version)
    return Snapshot(
        f"{namespace}/{name}",
        adapter.is_private,
        adapter.gate,
        adapter.created_at,
        None if opening else adapter_view(adapter),
        version_summary(version) if version else None,
        files_at(session, version, draft),
        draft_view(draft) if draft else None,
        frozenset(files_at(session, None, draft)),
    )


def find_draft(session: Session, adapter: Adapter, revision: str) -> Draft | None:
    """The draft that `revision` means: `main` while there is no version, a branch, a tag, or a commit or its first digits."""
    if is_main(revision) and adapter.last_number == 0:
        return drafts.newest_on_main(session, adapter.id, None)
    named = _named(session, adapter, revision)
    prefix = named or revision
    if not _SHORT_COMMIT.fullmatch(prefix[:39]):
        return None
    found = drafts.by_commit_prefix(session, adapter.id, prefix)
    return found[0] if len(found) == 1 else None


def find_named_version(session: Session, adapter: Adapter, revision: str) -> Version | None:
    """The version whose commit a branch or a tag of drafts names."""
    named = _named(session, adapter, revision)
    return versions.by_commit(session, adapter.id, named) if named else None


def files_at(session: Session, version: Version | None, draft: Draft | None) -> dict[str, FileView]:
    """The files of the version, and beside them those of the draft on it, by path."""
    files = {
        file.path: FileView(file.path, file.sha256, file.size_bytes)
        for file in (versions.files_of(session, version.id) if version else ())
    }
    for loose in drafts.files_of(session, draft.id) if draft else ():
        files[loose.path] = FileView(loose.path, loose.sha256, loose.size_bytes)
    return dict(sorted(files.items()))


def draft_view(draft: Draft) -> CommitView:
    return CommitView(draft.commit, draft.message, draft.created_at, draft.created_by.name)


def version_view(version: VersionSummary) -> CommitView:
    message = version.message or f"v{version.version}"
    return CommitView(version.commit, message, version.created_at, version.created_by)


def require_loose_given(session: Session, reader: Principal | None, namespace: str, name: str, path: str) -> None:
    """Returns when a file of a draft is given to `reader`. Raises Forbidden."""
    if path == CARD_FILE:
        return
    adapter = openings.find(session, reader, namespace, name) or find_adapter(session, reader, namespace, name)
    require_given(session, reader, adapter)


def missing_of(paths: Collection[str]) -> str:
    """What files of these names lack to be an adapter, in words; nothing where they may be one."""
    lacks = [] if WEIGHTS_FILE in paths else [WEIGHTS_FILE]
    if MANIFEST_FILE not in paths and CONFIG_FILE not in paths:
        lacks.append(f"{CONFIG_FILE} (or {MANIFEST_FILE})")
    return " and no ".join(lacks)


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


def _find_version(
    session: Session, reader: Principal | None, adapter: Adapter, revision: str
) -> tuple[Version | None, Draft | None]:
    """The version that `revision` means, and for `main` the draft that stands on it."""
    namespace, name = adapter.account.name, adapter.name
    if is_main(revision):
        version = head_of(session, adapter)
        if version is None:
            raise _unknown(namespace, name, revision)
        return version, drafts.newest_on_main(session, adapter.id, version.id)
    if revision.startswith(_BRANCHES):
        return None, None
    if _SHORT_COMMIT.fullmatch(revision):
        found = versions.by_commit_prefix(session, adapter.id, revision)
        return (found[0] if len(found) == 1 else None), None
    try:
        return find_version(session, reader, ref_at(namespace, name, revision)), None
    except NotFound:
        if find_draft(session, adapter, revision) is None and find_named_version(session, adapter, revision) is None:
            raise
        return None, None


def _named(session: Session, adapter: Adapter, revision: str) -> str | None:
    """The commit that a tag of drafts or a branch of this name means."""
    name = _plain(revision)[:100]
    kinds = ("branch",) if revision.startswith(_BRANCHES) else ("tag", "branch")
    found = (drafts.find_name(session, adapter.id, kind, name) for kind in kinds)
    return next((each.commit for each in found if each is not None), None)


def _plain(revision: str) -> str:
    for prefix in _PREFIXES:
        revision = revision.removeprefix(prefix)
    return revision


def _unknown(namespace: str, name: str, revision: str) -> NotFound:
    return NotFound(
        f"{namespace}/{name} has no revision {revision[:100]}: its versions are v1, v2 and so on, and main is the latest.",
        code="VERSION_UNKNOWN",
    )
