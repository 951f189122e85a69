"""Commits: changes to the files of an adapter's newest version, which make the next one.

A commit is a push. What it leaves unsaid stands as it is in the version before; what it says is checked, sealed and
published like any other push. It names what it builds on, so that nobody's work is undone by who has not seen it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db.queries import versions
from hub.domain import adopting, blobs, openings
from hub.domain.adopting import KnownBase
from hub.domain.catalog import find_adapter, head_of
from hub.domain.publishing import head_changed
from hub.domain.views import VersionSummary
from hub.errors import Conflict, Invalid, NotFound
from hub.storage.blobs import BlobStore
from vera import archive as archives
from vera.archive import MAX_BYTES, Archive
from vera.errors import RecipeError
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.peft_checkpoint import PeftCheckpoint, parse_checkpoint


@dataclass(frozen=True)
class Changes:
    """What a commit does. `parent` is the commit it builds on, or the first digits of it, where that was said."""

    message: str
    added: Mapping[str, bytes]
    removed: tuple[str, ...] = ()
    parent: str | None = None


@dataclass(frozen=True)
class Head:
    """What the next commit builds on: the newest version and its files; number 0 is an adapter without one."""

    number: int
    commit: str
    digest: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Prepared:
    """What a commit makes of an adapter, checked. See `adopting.Adopted` for the rest."""

    archive: Archive
    notes: tuple[str, ...] = ()
    dropped_bytes: int = 0

    @property
    def said(self) -> tuple[str, ...]:
        """What whoever commits is told."""
        if not self.dropped_bytes:
            return self.notes
        saved = (
            f"{self.dropped_bytes:,} bytes of saved matrices are what its seed gives, bit for bit, and are not kept."
        )
        return *self.notes, saved


def find_head(session: Session, principal: Principal, objects: BlobStore | None, *, namespace: str, name: str) -> Head:
    """Raises NotFound and Forbidden."""
    opening = openings.find(session, principal, namespace, name)
    if opening is not None:
        authorize(principal, Action.PUSH, Resource(namespace, name, opening.is_private))
        return Head(0, openings.EMPTY_COMMIT)
    version = head_of(session, find_adapter(session, principal, namespace, name, to=Action.PUSH))
    if version is None:
        return Head(0, openings.EMPTY_COMMIT)
    files = {
        file.path: blobs.bytes_of(blobs.locate(session, file.sha256), objects)
        for file in versions.files_of(session, version.id)
    }
    return Head(version.number, version.commit, version.digest, files)


def files_after(head: Head, changes: Changes) -> Mapping[str, bytes]:
    """The files as the commit leaves them. Raises Invalid for what is no file of an adapter, and NotFound for the
    removal of what is not there."""
    for path in changes.added:
        require_known_path(path)
    files = dict(head.files)
    for path in changes.removed:
        if path not in files:
            raise NotFound(
                f"A file with this name doesn't exist: {path[:200]}. The adapter has {', '.join(files) or 'no files'}.",
                code="FILE_UNKNOWN",
                commit=head.commit,
            )
        if path == CARD_FILE:
            files[path] = b""
        elif WEIGHTS_FILE in changes.added:
            del files[path]
        else:
            raise Invalid(
                f"{path} cannot be taken out: an adapter is whole or it is none. Push another one in its place.",
                code="FILE_MISSING",
                path=path,
            )
    return {**files, **changes.added}


def checkpoint_in(head: Head, files: Mapping[str, bytes]) -> PeftCheckpoint | None:
    """The checkpoint of PEFT that a commit brings: other tensors or another configuration, and no manifest for them."""
    changed = {path for path, data in files.items() if head.files.get(path) != data}
    if MANIFEST_FILE in changed or not changed & {WEIGHTS_FILE, CONFIG_FILE}:
        return None
    for path in (CONFIG_FILE, WEIGHTS_FILE):
        if path not in files:
            raise Invalid(
                f"There is no {path}: an adapter is committed whole, {WEIGHTS_FILE} with {MANIFEST_FILE} or with PEFT's "
                f"{CONFIG_FILE}, in one commit.",
                code="FILE_MISSING",
                path=path,
            )
    return parse_checkpoint(files[CONFIG_FILE], files[WEIGHTS_FILE])


def prepare(files: Mapping[str, bytes], checkpoint: PeftCheckpoint | None, known: tuple[KnownBase, ...]) -> Prepared:
    """The adapter that `files` are, or that the `checkpoint` among them is. Raises a VeraError and Invalid."""
    if checkpoint is None:
        return Prepared(archives.seal_files(files))
    try:
        adopted = adopting.adopt(checkpoint, known, files.get(CARD_FILE))
    except RecipeError as error:
        if error.code != "ROUNDING_UNKNOWN":
            raise
        raise Invalid(
            f"{error} Here: save it with save_projection=True, or import it with `vera-hub import` and push that.",
            code=error.code,
        ) from error
    return Prepared(adopted.archive, adopted.notes, adopted.dropped_bytes)


def require_parent(head: Head, parent: str | None) -> None:
    """Raises PreconditionFailed when the commit builds on another than the newest version."""
    if parent is not None and not head.commit.startswith(parent):
        raise head_changed(expected=head.commit, got=parent)


def require_not_earlier(head: Head, version: VersionSummary) -> None:
    """Raises Conflict for a commit that brings back an earlier version, which stays the version that it is."""
    if version.version < head.number:
        raise Conflict(
            f"These files are {version.ref} already, and a version is published once: nothing was changed. Use "
            f"{version.ref}, or let an alias mean it.",
            code="VERSION_KNOWN",
            ref=version.ref,
        )


def is_known_path(path: str) -> bool:
    return path in MAX_BYTES


def require_known_path(path: str) -> None:
    """Raises Invalid."""
    if not is_known_path(path):
        raise Invalid(
            f"{path[:200]!r} is no file of an adapter, which has {', '.join(MAX_BYTES)} and nothing else: leave it out "
            "(`hf upload --exclude`, `ignore_patterns`).",
            code="FILE_UNKNOWN_HERE",
            path=path[:200],
        )
