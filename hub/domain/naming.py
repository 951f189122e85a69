"""Branches beside `main`, and tags of drafts: names of commits, which make no version and mean none to anybody else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Draft
from hub.db.queries import aliases, drafts
from hub.domain import committing, drafting, openings
from hub.domain.audit import Change, record
from hub.domain.catalog import find_adapter
from hub.domain.drafting import Loose
from hub.domain.snapshots import MAIN, Snapshot, files_at, find_snapshot
from hub.errors import Conflict, Forbidden, Invalid, NotFound

MAX_NAMES = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)*")
# What means a version or a commit already, or may one day.
_TAKEN = re.compile(r"v[1-9][0-9]*|latest|head|refs/.*|sha256.*|[0-9a-f]{7,40}", re.IGNORECASE)


@dataclass(frozen=True)
class NamedCommit:
    kind: str
    name: str
    commit: str


def list_names(session: Session, reader: Principal | None, namespace: str, name: str) -> Sequence[NamedCommit]:
    """The branches beside `main` and the tags of drafts."""
    adapter = openings.find(session, reader, namespace, name) or find_adapter(session, reader, namespace, name)
    return [NamedCommit(row.kind, row.name, row.commit) for row in drafts.names_of(session, adapter.id)]


def create_branch(session: Session, principal: Principal, found: Snapshot, branch: str) -> None:
    """Makes a branch at `found`. Raises Invalid, Conflict and Forbidden."""
    adapter = _hold(session, principal, found.id)
    _require_there(session, principal, found)
    if branch == MAIN or drafts.find_name(session, adapter.id, "branch", branch) is not None:
        raise Conflict(f"Reference refs/heads/{branch[:100]} already exists: commit to it.", code="BRANCH_EXISTS")
    _check_name(branch)
    _require_free(session, adapter, found.id, branch, "tag")
    _require_room(session, adapter)
    drafts.set_name(session, adapter.id, "branch", branch, found.commit)
    record(session, principal, Change.DRAFT_NAMED, found.id, {"branch": branch, "commit": found.commit})


def delete_branch(session: Session, principal: Principal, adapter_id: str, branch: str) -> None:
    """Removes a branch, and the drafts that nothing else leads to. Raises NotFound and Forbidden."""
    adapter = _hold(session, principal, adapter_id)
    if branch == MAIN:
        raise Forbidden("Cannot delete refs/heads/main: it is what there is.", code="BRANCH_PROTECTED")
    if drafts.find_name(session, adapter.id, "branch", branch) is None:
        raise NotFound(f"Invalid rev id: {branch[:100]} is no branch of {adapter_id}.", code="VERSION_UNKNOWN")
    drafts.remove_name(session, adapter.id, "branch", branch)
    _clear(session, adapter)
    record(session, principal, Change.DRAFT_UNNAMED, adapter_id, {"branch": branch})


def create_tag(session: Session, principal: Principal, found: Snapshot, tag: str) -> None:
    """Names the draft `found`. Raises Invalid, Conflict and Forbidden."""
    adapter = _hold(session, principal, found.id, to=Action.SET_ALIAS)
    _require_there(session, principal, found)
    _check_name(tag)
    if drafts.find_name(session, adapter.id, "tag", tag) is not None:
        raise Conflict(f"{found.id} has the tag {tag} already: delete it first.", code="ALIAS_EXISTS")
    _require_free(session, adapter, found.id, tag, "branch")
    _require_room(session, adapter)
    drafts.set_name(session, adapter.id, "tag", tag, found.commit)
    record(session, principal, Change.DRAFT_NAMED, found.id, {"tag": tag, "commit": found.commit})


def delete_tag(session: Session, principal: Principal, adapter_id: str, tag: str) -> bool:
    """Removes a tag of a draft. False when there is none."""
    adapter = _hold(session, principal, adapter_id, to=Action.SET_ALIAS)
    if drafts.find_name(session, adapter.id, "tag", tag[:100]) is None:
        return False
    drafts.remove_name(session, adapter.id, "tag", tag)
    _clear(session, adapter)
    record(session, principal, Change.DRAFT_UNNAMED, adapter_id, {"tag": tag})
    return True


def squash(session: Session, principal: Principal, adapter_id: str, branch: str, message: str) -> None:
    """Makes one draft of all those of the branch. Raises NotFound, and Forbidden where versions would go."""
    adapter = _hold(session, principal, adapter_id)
    # Found only now that nobody else can commit: whatever was acknowledged is part of it.
    found = _snapshot(session, principal, adapter_id, MAIN if branch == MAIN else f"refs/heads/{branch}")
    if found.version is not None or found.draft is None:
        raise Forbidden(
            f"{branch[:100]} has versions in its history, which others may rely on: they stay.",
            code="VERSION_IMMUTABLE",
        )
    (draft,) = drafts.by_commit_prefix(session, adapter.id, found.commit)
    files, is_main = files_at(session, None, draft), branch == MAIN
    if is_main:
        drafts.leave_main(session, [each.id for each in drafts.all_of(session, adapter.id) if each.is_main])
    else:
        drafts.set_name(session, adapter.id, "branch", branch, found.commit)
    made = drafting.add(
        session, principal, adapter, Loose(files, {}), message=message, is_main=is_main, may_exceed=True
    )
    if not is_main:
        drafts.set_name(session, adapter.id, "branch", branch, made.commit)
    _clear(session, adapter)
    facts = {"branch": branch, "before": found.commit, "commit": made.commit}
    record(session, principal, Change.DRAFTS_SQUASHED, found.id, facts)


def _clear(session: Session, adapter: Adapter) -> None:
    """Removes the drafts that neither `main` nor a name leads to."""
    there = drafts.all_of(session, adapter.id)
    by_commit = {draft.commit: draft for draft in there}
    led_to = [draft.commit for draft in there if draft.is_main]
    led_to += [row.commit for row in drafts.names_of(session, adapter.id)]
    kept: set[int] = set()
    for commit in led_to:
        draft: Draft | None = by_commit.get(commit)
        while draft is not None and draft.id not in kept:
            kept.add(draft.id)
            draft = by_commit.get(draft.parent or "")
    drafts.remove(session, [draft.id for draft in there if draft.id not in kept])


def _hold(session: Session, principal: Principal, adapter_id: str, *, to: Action = Action.PUSH) -> Adapter:
    namespace, _, name = adapter_id.partition("/")
    adapter = committing.hold(session, principal, namespace, name)
    authorize(principal, to, Resource(namespace, name, adapter.is_private))
    return adapter


def _snapshot(session: Session, principal: Principal, adapter_id: str, revision: str) -> Snapshot:
    namespace, _, name = adapter_id.partition("/")
    return find_snapshot(session, principal, namespace, name, revision)


def _require_there(session: Session, principal: Principal, found: Snapshot) -> None:
    """Raises NotFound for a draft that went before the adapter was held."""
    _snapshot(session, principal, found.id, found.commit)


def _require_free(session: Session, adapter: Adapter, adapter_id: str, name: str, other: str) -> None:
    """Raises Conflict for what is an alias, or a name of the `other` kind: one word would mean two things."""
    if aliases.find(session, adapter.id, name) is not None:
        raise Conflict(
            f"{name} is an alias of {adapter_id}, and means a version: choose another name.", code="ALIAS_EXISTS"
        )
    if drafts.find_name(session, adapter.id, other, name) is not None:
        raise Conflict(f"{name} is a {other} of {adapter_id} already: choose another name.", code="ALIAS_EXISTS")


def _require_room(session: Session, adapter: Adapter) -> None:
    if len(drafts.names_of(session, adapter.id)) >= MAX_NAMES:
        raise Conflict(
            f"There are {MAX_NAMES} branches and tags of drafts, and more are not kept: delete one.",
            code="NAMES_TOO_MANY",
        )


def _check_name(name: str) -> None:
    if len(name) > 100 or not _NAME.fullmatch(name) or ".." in name or _TAKEN.fullmatch(name) or name == MAIN:
        raise Invalid(
            f"{name[:100]!r} can be no branch and no tag: use letters, digits, '-', '_', '.' and '/', and nothing that "
            "means a version or a commit (v3, latest, a digest, 7 to 40 hex digits).",
            code="ALIAS_INVALID",
            alias=name[:100],
        )
