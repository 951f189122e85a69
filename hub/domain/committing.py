"""Commits: changes to the files of an adapter, which make its next version, or a draft.

A commit that leaves `main` with another whole adapter is a push: what it leaves unsaid stands as it is in the version
before; what it says is checked, sealed and published like any other push. Everything else that it holds is kept as a
draft. It names what it builds on, so that nobody's work is undone by who has not seen it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Draft
from hub.db.queries import adapters, drafts, versions
from hub.domain import adopting, blobs, drafting, openings, snapshots
from hub.domain.adopting import KnownBase
from hub.domain.audit import Change, record
from hub.domain.catalog import find_adapter, head_of, require_served
from hub.domain.claiming import Quota
from hub.domain.drafting import ATTRIBUTES_FILE, Loose
from hub.domain.openings import EMPTY_COMMIT
from hub.domain.publishing import head_changed
from hub.domain.snapshots import MAIN
from hub.domain.views.versions import FileView, VersionSummary
from hub.errors import Conflict, Invalid, NotFound
from hub.storage.blobs import BlobStore, sha256_of
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
    """What the next commit builds on: a version and its files, and what a draft has beside them, or while `number` is 0,
    at all. `loose` are the bytes of those files of a draft that an adapter may be made of."""

    number: int
    commit: str
    digest: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    version_id: int | None = None
    kept: Mapping[str, FileView] = field(default_factory=dict)
    loose: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    branch: str = MAIN
    is_draft: bool = False
    # There are versions, and none of them can be had.
    is_withheld: bool = False


@dataclass(frozen=True)
class Tree:
    """The files as a commit leaves them: those that an adapter may be made of, and those beside them."""

    files: Mapping[str, bytes] = field(repr=False)
    beside: Loose

    @property
    def missing(self) -> str:
        """What it has not that an adapter has, in words."""
        return snapshots.missing_of(self.files)

    @property
    def is_whole(self) -> bool:
        return not self.missing

    @property
    def adapters_within(self) -> list[str]:
        """The folders that hold an adapter of their own, as PEFT saves the adapters of a model that has several."""
        paths = {*self.beside.kept, *self.beside.new}
        return sorted(path.removesuffix(f"/{CONFIG_FILE}") for path in paths if path.endswith(f"/{CONFIG_FILE}"))

    def as_draft(self, head: Head) -> Loose:
        """All of it that is no file of the version which the head is."""
        new = {path: data for path, data in self.files.items() if head.files.get(path) != data}
        return Loose(self.beside.kept, {**new, **self.beside.new})


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


def find_head(
    session: Session, principal: Principal, objects: BlobStore | None, *, namespace: str, name: str, branch: str = MAIN
) -> Head:
    """The last commit of the branch. Raises NotFound, Forbidden, and Withheld where it stands on what is not given out."""
    adapter = _find(session, principal, namespace, name)
    if branch != MAIN:
        return _head_of_branch(session, adapter, objects, branch)
    version = head_of(session, adapter) if adapter.last_number else None
    if version is None and adapter.last_number:
        return Head(0, EMPTY_COMMIT, is_withheld=True)
    draft = drafts.newest_on_main(session, adapter.id, version.id if version else None)
    return _head(session, objects, version_id=version.id if version else None, draft=draft, branch=MAIN)


def _head_of_branch(session: Session, adapter: Adapter, objects: BlobStore | None, branch: str) -> Head:
    named = drafts.find_name(session, adapter.id, "branch", branch[:100])
    if named is None:
        raise NotFound(
            f"{branch[:100]} is no branch: commit to {MAIN}, or make the branch first (`create_branch`).",
            code="VERSION_UNKNOWN",
        )
    version = versions.by_commit(session, adapter.id, named.commit)
    if version is not None:
        return _head(session, objects, version_id=version.id, draft=None, branch=branch)
    draft = next(iter(drafts.by_commit_prefix(session, adapter.id, named.commit)), None)
    return _head(session, objects, version_id=draft.beneath_id if draft else None, draft=draft, branch=branch)


def _head(
    session: Session, objects: BlobStore | None, *, version_id: int | None, draft: Draft | None, branch: str
) -> Head:
    def read(sha256: str) -> bytes:
        return blobs.bytes_of(blobs.locate(session, sha256), objects)

    version = versions.by_id(session, version_id) if version_id is not None else None
    if version is not None:
        require_served(version)
    kept = {file.path: file for file in snapshots.files_at(session, None, draft).values()}
    loose = {path: read(kept[path].sha256) for path in kept.keys() & MAX_BYTES.keys()}
    commit = draft.commit if draft else version.commit if version else EMPTY_COMMIT
    if version is None:
        return Head(0, commit, kept=kept, loose=loose, branch=branch, is_draft=draft is not None)
    files = {file.path: read(file.sha256) for file in versions.files_of(session, version.id)}
    return Head(version.number, commit, version.digest, files, version.id, kept, loose, branch, draft is not None)


def tree_after(head: Head, changes: Changes) -> Tree:
    """The files as the commit leaves them. Raises Invalid for what can be no file, and NotFound for the removal of what
    is not there."""
    for path in changes.added:
        drafting.check_path(path)
    files = {**head.files, **head.loose}
    kept = {path: file for path, file in head.kept.items() if path not in files}
    for wanted in changes.removed:
        gone = [path for path in (*files, *kept) if path == wanted or path.startswith(f"{wanted}/")]
        if not gone:
            raise _not_there(head, wanted, [*files, *kept])
        for path in gone:
            if path in head.files:
                _take_out(files, path, changes)
            else:
                files.pop(path, None)
                kept.pop(path, None)
    new = {path: data for path, data in changes.added.items() if path not in MAX_BYTES}
    beside = Loose({path: file for path, file in kept.items() if path not in new}, new)
    return Tree({**files, **{path: data for path, data in changes.added.items() if path in MAX_BYTES}}, beside)


def _take_out(files: dict[str, bytes], path: str, changes: Changes) -> None:
    """Takes a file of a version out, where what stays is an adapter."""
    if path == CARD_FILE:
        files[path] = b""
    elif WEIGHTS_FILE in changes.added:
        files.pop(path)
    else:
        raise Invalid(
            f"{path} cannot be taken out: an adapter is whole or it is none. Push another one in its place.",
            code="FILE_MISSING",
            path=path,
        )


def is_unchanged(head: Head, tree: Tree) -> bool:
    """True for a commit that changes nothing."""
    return tree.files == {**head.files, **head.loose} and is_unchanged_beside(head, tree)


def is_unchanged_beside(head: Head, tree: Tree) -> bool:
    """True for a commit that changes nothing beside the adapter."""
    had = {path: file.sha256 for path, file in head.kept.items() if path not in MAX_BYTES}
    has = {path: file.sha256 for path, file in tree.beside.kept.items()}
    return had == {**has, **{path: sha256_of(data) for path, data in tree.beside.new.items()}}


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


def require_place_for_draft(head: Head, tree: Tree) -> None:
    """Raises Invalid for what makes no version and can be no draft either."""
    if head.branch != MAIN and (tree.is_whole if head.number == 0 else tree.files != head.files):
        raise Invalid(
            f"An adapter is committed to {MAIN}, where it is checked and becomes a version: a branch holds what lies beside "
            f"it. Commit it to {MAIN}, and let an alias mean the version that it makes (`create_tag`, `vera-hub alias set`).",
            code="BRANCH_UNSUPPORTED",
        )
    if head.is_withheld:
        raise Invalid(
            "None of its versions can be had, so nothing can be put beside one: push a whole adapter first.",
            code="VERSION_UNKNOWN",
        )
    for path, data in tree.files.items():
        if len(data) > MAX_BYTES[path]:
            raise Invalid(f"{path} has {len(data):,} bytes, and may have {MAX_BYTES[path]:,}.", code="FILE_TOO_LARGE")


def beside_version(tree: Tree) -> Loose:
    """What goes on beside a new version."""
    kept = {path: file for path, file in tree.beside.kept.items() if path != ATTRIBUTES_FILE}
    return replace(tree.beside, kept=kept)


@dataclass(frozen=True)
class Keeping:
    """Where files are kept that are no version's, with what message, and how much their owner may have. `outside` names
    the blobs that are in the object store already."""

    namespace: str
    name: str
    message: str
    quota: Quota
    outside: Mapping[str, datetime]


def keep_draft(session: Session, principal: Principal, head: Head, loose: Loose, keeping: Keeping) -> str:
    """Keeps `loose` as the next draft of the head's branch, and gives its commit. Raises PreconditionFailed when the
    head is another by now, and what `drafting.add` does."""
    adapter = hold(session, principal, keeping.namespace, keeping.name)
    _require_head(session, adapter, head)
    parent = None if head.commit == EMPTY_COMMIT else head.commit
    return _add(
        session, principal, adapter, loose, keeping, parent=parent, beneath_id=head.version_id, branch=head.branch
    )


def keep_beside(
    session: Session, principal: Principal, head: Head, loose: Loose, keeping: Keeping, *, version: VersionSummary
) -> str:
    """Keeps `loose` beside the version that was just made of the head, and gives the commit that `main` is then."""
    adapter = find_adapter(session, principal, keeping.namespace, keeping.name)  # held by the push
    before = drafts.newest_on_main(session, adapter.id, head.version_id)
    if (before.commit if before else None) != (head.commit if head.is_draft else None):
        raise head_changed(expected=head.commit, got=before.commit if before else None)
    if not loose.kept and not loose.new:
        return version.commit
    row = versions.by_commit(session, adapter.id, version.commit)
    assert row is not None, "it was published in this transaction"
    return _add(session, principal, adapter, loose, keeping, parent=version.commit, beneath_id=row.id, branch=MAIN)


def _add(
    session: Session,
    principal: Principal,
    adapter: Adapter,
    loose: Loose,
    keeping: Keeping,
    *,
    parent: str | None,
    beneath_id: int | None,
    branch: str,
) -> str:
    draft = drafting.add(
        session,
        principal,
        adapter,
        loose,
        message=keeping.message,
        parent=parent,
        beneath_id=beneath_id,
        is_main=branch == MAIN,
        quota=keeping.quota,
        outside=keeping.outside,
    )
    if branch != MAIN:
        drafts.set_name(session, adapter.id, "branch", branch, draft.commit)
    facts = {"commit": draft.commit, "parent": parent, "branch": branch, "files": len(loose.kept) + len(loose.new)}
    record(session, principal, Change.DRAFT_COMMITTED, f"{keeping.namespace}/{keeping.name}", facts)
    return draft.commit


def hold(session: Session, principal: Principal, namespace: str, name: str) -> Adapter:
    """The adapter, which `principal` may push to, locked until the transaction ends. Raises NotFound and Forbidden."""
    found = _find(session, principal, namespace, name)
    adapters.hold(session, found.account_id, found.name)
    session.expire_all()
    return _find(session, principal, namespace, name)  # a move or a first version may have come before the lock


def _find(session: Session, principal: Principal, namespace: str, name: str) -> Adapter:
    found = openings.find(session, principal, namespace, name)
    found = found or find_adapter(session, principal, namespace, name, to=Action.PUSH)
    authorize(principal, Action.PUSH, Resource(namespace, name, found.is_private))
    return found


def _require_head(session: Session, adapter: Adapter, head: Head) -> None:
    """Raises PreconditionFailed when the head is not the last commit of its branch any more."""
    if head.branch != MAIN:
        named = drafts.find_name(session, adapter.id, "branch", head.branch)
        now = named.commit if named else None
    else:
        version = head_of(session, adapter) if adapter.last_number else None
        draft = drafts.newest_on_main(session, adapter.id, version.id if version else None)
        now = draft.commit if draft else version.commit if version else EMPTY_COMMIT
    if now != head.commit:
        raise head_changed(expected=head.commit, got=now)


def _not_there(head: Head, path: str, files: Sequence[str]) -> NotFound:
    shown = ", ".join(files[:20]) or "no files"
    return NotFound(
        f"A file with this name doesn't exist: {path[:200]}. The adapter has {shown}.",
        code="FILE_UNKNOWN",
        commit=head.commit,
    )
