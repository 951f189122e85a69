"""Taking versions back: each way as strong as it has to be, and each of them seen.

    deprecate    it is given out, with a word about what to use instead
    yank         it is given out to who names it exactly, and is nothing that moves: neither `latest` nor an alias
    quarantine   an admin keeps it from being given out, until it is released
    delete       its files go for good; a row stays, so that its number and its digest are never given again

All of it holds the adapter, and what `latest` means is found anew in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Scope
from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Version
from hub.db.queries import aliases, drafts, queueing, versions
from hub.domain.audit import Change, record
from hub.domain.catalog import hold_adapter, require_served, select_version, version_detail
from hub.domain.evaluations import enqueue_for_version
from hub.domain.finding import relist
from hub.domain.shaping import ref_of, version_summary
from hub.domain.views.versions import VersionDetail, VersionSummary
from hub.errors import Conflict, Forbidden, Invalid
from hub.storage.table import TableBlobs
from vera.manifest import MANIFEST_FILE, Manifest
from vera.ref import AdapterRef, SelectorKind

MAX_REASON = 1000
# Long enough to notice a mistake, short enough that nobody has come to rely on it.
DELETE_WITHIN = timedelta(hours=24)


def yank(session: Session, principal: Principal, ref: AdapterRef, reason: str) -> VersionDetail:
    """Takes the version back. A second time changes the reason. Raises Conflict while an alias means it."""
    adapter, version = _hold_served(session, principal, ref)
    _require_no_alias(session, version, "yanked")
    version.yank_reason = checked_reason(reason)
    refresh_latest(session, adapter)
    return _done(session, principal, version, Change.VERSION_YANKED, {"reason": version.yank_reason})


def unyank(session: Session, principal: Principal, ref: AdapterRef) -> VersionDetail:
    """Gives the version again, and asks for the evaluations that it missed meanwhile."""
    adapter, version = _hold_served(session, principal, ref)
    version.yank_reason = None
    refresh_latest(session, adapter)
    enqueue_for_version(session, version, adapter.account_id, fingerprint=version.base.fingerprint, at=db.now(session))
    return _done(session, principal, version, Change.VERSION_UNYANKED)


def deprecate(
    session: Session, principal: Principal, ref: AdapterRef, message: str, replacement: str | None = None
) -> VersionDetail:
    """Says of the version that it is not to be used any more, and what instead (a reference). Raises RefError."""
    _, version = _hold_served(session, principal, ref)
    version.replacement = str(AdapterRef.parse(replacement)) if replacement is not None else None
    version.deprecation = checked_reason(message)
    facts = {"message": version.deprecation, "replacement": version.replacement}
    return _done(session, principal, version, Change.VERSION_DEPRECATED, facts)


def undeprecate(session: Session, principal: Principal, ref: AdapterRef) -> VersionDetail:
    _, version = _hold_served(session, principal, ref)
    version.deprecation = version.replacement = None
    return _done(session, principal, version, Change.VERSION_UNDEPRECATED)


def quarantine(session: Session, principal: Principal, ref: AdapterRef, reason: str) -> VersionSummary:
    """Keeps the version from being given out, whatever means it. What waits to be evaluated ends."""
    adapter, version = _hold(session, principal, ref, to=Action.QUARANTINE)
    _require_not_deleted(version)
    version.quarantine_reason = checked_reason(reason)
    queueing.fail_open(session, version.id, at=db.now(session), reason="The version is in quarantine.")
    refresh_latest(session, adapter)
    facts = {"reason": version.quarantine_reason}
    record(session, principal, Change.VERSION_QUARANTINED, ref_of(version), facts)
    return version_summary(version)


def release(session: Session, principal: Principal, ref: AdapterRef) -> VersionDetail:
    """Ends the quarantine, and asks for the evaluations that the version missed meanwhile."""
    adapter, version = _hold(session, principal, ref, to=Action.QUARANTINE)
    _require_not_deleted(version)
    version.quarantine_reason = None
    refresh_latest(session, adapter)
    if version.yank_reason is None:
        enqueue_for_version(
            session, version, adapter.account_id, fingerprint=version.base.fingerprint, at=db.now(session)
        )
    return _done(session, principal, version, Change.VERSION_RELEASED)


def delete(session: Session, principal: Principal, ref: AdapterRef, reason: str) -> None:
    """Drops the files of the version and leaves a tombstone. A second time changes nothing.

    A maintainer may do it within a day of the push, as long as nobody else has fetched the version and no alias
    means it; an admin always, and its aliases go with it. Raises Forbidden, Conflict and Withheld.
    """
    is_admin = principal.is_admin and Scope.ADMIN in principal.scopes
    adapter, version = _hold(session, principal, ref, to=Action.QUARANTINE if is_admin else Action.DELETE_VERSION)
    if version.delete_reason is not None:
        return
    reason = checked_reason(reason)
    names = aliases.names_of(session, version.id)
    if is_admin:
        _remove_aliases(session, adapter, version, names, principal)
    else:
        require_served(version)  # what is in quarantine is evidence
        _require_no_alias(session, version, "deleted")
        _require_unnoticed(session, version)
    drafted = bury(session, version, reason)
    refresh_latest(session, adapter)
    facts = {"reason": reason, "digest": version.digest, "aliases": list(names)}
    for kind, plural in (("branch", "branches"), ("tag", "tags")):
        facts[plural] = [name for each, name in drafted if each == kind]
    record(session, principal, Change.VERSION_DELETED, ref_of(version), facts)


def bury(session: Session, version: Version, reason: str) -> list[tuple[str, str]]:
    """Drops the files of the version and leaves a tombstone. Gives the branches and tags that led there, by kind and name."""
    at = db.now(session)
    versions.drop_files(session, version.id)
    drafted = drafts.remove_on(session, version.id)
    queueing.fail_open(session, version.id, at=at, reason="The version was deleted.")
    version.deleted_at, version.delete_reason = at, reason
    version.card_html, version.message, version.source, version.stored_projection = "", None, None, None
    return drafted


def refresh_latest(session: Session, adapter: Adapter) -> None:
    """Finds anew what `latest` means, and so which base and task the adapter has. To be called with the adapter held."""
    session.flush()
    latest = versions.newest_current(session, adapter.id)
    adapter.latest_number = latest.number if latest else None
    shown = latest or versions.newest_served(session, adapter.id)
    if shown is not None:
        task = _manifest_of(session, shown).task
        adapter.base_id = shown.base_id
        adapter.task_kind = task.kind if task else None
        adapter.labels = list(task.labels) if task else None
    session.flush()
    relist(session, adapter)


def checked_reason(text: str) -> str:
    """A reason as it can be shown. Raises Invalid."""
    text = text.strip()
    if not 0 < len(text) <= MAX_REASON or not text.replace("\n", "").replace("\t", "").isprintable():
        raise Invalid(
            f"Say why, in 1 to {MAX_REASON} characters of text without control characters: "
            "whoever meets the version reads it.",
            code="REASON_INVALID",
        )
    return text


def require_exact(ref: AdapterRef) -> None:
    """Raises Invalid for a reference that may mean another version tomorrow."""
    if ref.selector_kind in (SelectorKind.LATEST, SelectorKind.ALIAS):
        raise Invalid(
            f"{ref} may mean another version by the time this is done: name the version itself, as in "
            f"{ref.adapter_id}@v1.",
            code="SELECTOR_MOVES",
            ref=str(ref),
        )


def _hold(session: Session, principal: Principal, ref: AdapterRef, *, to: Action) -> tuple[Adapter, Version]:
    adapter = hold_adapter(session, principal, ref.namespace, ref.name, to=to)
    require_exact(ref)
    return adapter, select_version(session, adapter, ref)


def _hold_served(session: Session, principal: Principal, ref: AdapterRef) -> tuple[Adapter, Version]:
    """What its author may take back: a version that is given out."""
    adapter, version = _hold(session, principal, ref, to=Action.YANK)
    require_served(version)
    return adapter, version


def _done(
    session: Session, principal: Principal, version: Version, change: Change, facts: Mapping[str, Any] | None = None
) -> VersionDetail:
    """The version as it is now, with the change in the record."""
    session.flush()
    record(session, principal, change, ref_of(version), facts)
    return version_detail(session, principal, version)


def _require_no_alias(session: Session, version: Version, what: str) -> None:
    names = aliases.names_of(session, version.id)
    if names:
        raise Conflict(
            f"{ref_of(version)} cannot be {what} while {', '.join(names)} means it: move "
            f"{'it' if len(names) == 1 else 'them'} first, `vera-hub alias set`.",
            code="VERSION_IN_USE",
            ref=ref_of(version),
            aliases=list(names),
        )


def _require_unnoticed(session: Session, version: Version) -> None:
    if version.fetched_at is None and db.now(session) - version.created_at <= DELETE_WITHIN:
        return
    why = "somebody has fetched it" if version.fetched_at is not None else "it was pushed more than a day ago"
    raise Forbidden(
        f"{ref_of(version)} is not deleted, because {why} and others may rely on it: take it back with "
        f"`vera-hub yank {ref_of(version)}`, or ask an admin of this hub.",
        code="DELETE_TOO_LATE",
        ref=ref_of(version),
    )


def _require_not_deleted(version: Version) -> None:
    if version.delete_reason is not None:
        require_served(version)


def _remove_aliases(
    session: Session, adapter: Adapter, version: Version, names: Sequence[str], principal: Principal
) -> None:
    at = db.now(session)
    for name in names:
        aliases.remove(session, adapter.id, name)
        aliases.note_move(
            session, adapter.id, name, before=version.number, after=None, by_id=principal.account_id, at=at
        )


def _manifest_of(session: Session, version: Version) -> Manifest:
    file = next(file for file in versions.files_of(session, version.id) if file.path == MANIFEST_FILE)
    return Manifest.from_bytes(TableBlobs(session).get(file.sha256))
