"""Adapters of another hub, as they are kept here: ordinary immutable versions in a namespace that is a copy.

What never changes is kept once; what moves there (aliases, `latest`, withdrawals) is laid over it whenever that hub
says anew what it is like. A namespace is one hub's: what is here already is never mixed with what is there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from hub.auth.policy import Grant, Principal, Resource, Role, Scope
from hub.db import session as db
from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter, MirroredAdapter
from hub.db.models.versions import Alias, Version
from hub.db.queries import accounts, adapters, aliases, listings, versions
from hub.db.queries import blobs as blob_rows
from hub.db.queries.inserting import insert_new
from hub.domain import bases, claiming, projections, publishing, withdrawing
from hub.domain.audit import Change, record
from hub.domain.catalog import read_only, select_version
from hub.domain.claiming import Quota
from hub.domain.shaping import ref_of
from hub.domain.uploads import Said, Upload
from hub.domain.views.adapters import AdapterDetail
from hub.domain.views.versions import VersionDetail, VersionSummary
from hub.errors import Conflict, HubError
from vera.errors import VeraError
from vera.ref import AdapterRef, fold_name

# In the record, in the place of a user.
ACTOR = "mirror"
_PREFIXES = ("refs/heads/", "refs/tags/")
_HEADS = ("", "latest", "main", "HEAD")
_SHORT_COMMIT = re.compile(r"[0-9a-f]{7,40}")


@dataclass(frozen=True)
class Copy:
    """What is here of an adapter. `is_here` says whether what was asked for is."""

    checked_at: datetime
    age: timedelta
    etag: str | None
    is_here: bool
    is_private: bool
    numbers: frozenset[int]


def require_own(session: Session, namespace: str | None) -> None:
    """Raises Forbidden for a namespace that is a copy."""
    account = accounts.known(session, namespace) if namespace else None
    if account is not None and account.mirrored_from is not None:
        raise read_only(account.name, account.mirrored_from)


def is_taken(session: Session, namespace: str, origin: str) -> bool:
    """True for a namespace that is, or was, somebody's here, or a copy of another hub's: it is not looked for elsewhere."""
    account = accounts.known(session, namespace)
    return account is not None and account.mirrored_from != origin


def find(session: Session, namespace: str, name: str, selector: str) -> Copy | None:
    """The copy of the adapter, if there is one. `selector` is as `wanted_of` has it."""
    adapter = _adapter(session, namespace, name)
    kept = session.get(MirroredAdapter, adapter.id) if adapter else None
    if adapter is None or kept is None:
        return None
    return Copy(
        kept.checked_at,
        db.now(session) - kept.checked_at,
        kept.etag,
        _is_here(session, adapter, namespace, selector),
        adapter.is_private,
        frozenset(each.number for each in versions.all_of(session, adapter.id)),
    )


def wanted_of(detail: AdapterDetail, selector: str) -> tuple[int, ...]:
    """The versions that `selector` may mean at the other hub: those that it gives out, by number. What moves, and
    what it says of the adapter as a whole, is about the head too."""
    plain = _plain(selector)
    there = [each for each in detail.versions if each.deleted is None and each.quarantined is None]
    alias = next((each.version for each in detail.aliases if each.name == plain), None)
    found = {each.version for each in there if _means(each, plain) or each.version == alias}
    return tuple(sorted(found | head_of(detail))) if plain in _HEADS else tuple(sorted(found))


def head_of(detail: AdapterDetail) -> set[int]:
    """The latest version, or the newest that is given out while none is the latest; nothing when none is."""
    there = [each.version for each in detail.versions if each.deleted is None and each.quarantined is None]
    return {detail.latest if detail.latest is not None else max(there)} if there else set()


def is_moving(selector: str) -> bool:
    """True for what may mean another version tomorrow."""
    plain = _plain(selector)
    return not (re.fullmatch(r"v[1-9][0-9]*", plain) or plain.startswith("sha256") or _SHORT_COMMIT.fullmatch(plain))


def keep_version(
    session: Session, origin: str, upload: Upload, told: VersionDetail, adapter: AdapterDetail, *, quota: Quota
) -> None:
    """Keeps a version of the other hub under its number there. Twice is once.

    `upload` is checked, and what it needs is here. Raises what `publish_version` does.
    """
    account = _account(session, adapter.namespace, origin)
    row = _prepare_adapter(session, account, upload, told, adapter)
    if versions.by_number(session, row.id, told.version) is not None:
        return
    before, row.last_number = row.last_number, told.version - 1
    session.flush()
    publishing.publish_version(
        session,
        _speaking_for(account, told),
        upload,
        namespace=account.name,
        name=row.name,
        quota=quota,
        is_evaluated=False,
    )
    version = versions.by_number(session, row.id, told.version)
    assert version is not None
    version.created_at, row.updated_at = told.created_at, adapter.updated_at
    version.parent_id = _parent_id(session, row, told)
    if not versions.has_commit(session, told.commit):  # the adapter has moved there, and is here by its old name too
        version.commit = told.commit
    row.last_number = max(before, told.version)
    withdrawing.refresh_latest(session, row)


def keep_pair_again(session: Session, namespace: str, digest: str) -> bool:
    """Whether the stored pair is here for this copied namespace: what others alone have sent has to be fetched."""
    account = accounts.known(session, namespace)
    return account is not None and projections.keep_given(session, _speaking_for(account), digest)


def principal_in(session: Session, namespace: str, origin: str) -> Principal:
    """Who keeps what is fetched for a namespace, which is made when it is new. Raises Conflict."""
    return _speaking_for(_account(session, namespace, origin))


def lay_over(session: Session, detail: AdapterDetail, *, etag: str | None) -> None:
    """Makes what moves as `detail` says, for the versions that are here. `etag` names it once all of it is."""
    row = _held(session, detail.namespace, detail.name)
    if row is None:
        return
    principal = _speaking_for(row.account)
    told = {each.version: each for each in detail.versions}
    for version in versions.all_of(session, row.id):
        _withdraw(session, principal, row.account.mirrored_from or "", version, told.get(version.number))
    _place_aliases(session, row, detail)
    is_private = detail.visibility == "private"
    if row.is_private != is_private:
        row.is_private = is_private
        session.flush()
        listings.set_private(session, row.id, is_private=is_private)
    withdrawing.refresh_latest(session, row)
    _note(session, row, etag)


def withdraw_all(session: Session, namespace: str, name: str, reason: str) -> None:
    """Gives out no version any more: the other hub does not know the adapter, shows it to others only, or has gated it."""
    row = _held(session, namespace, name)
    if row is None:
        return
    principal, origin = _speaking_for(row.account), row.account.mirrored_from or ""
    for version in versions.all_of(session, row.id):
        _quarantine(session, principal, version, origin, reason)
    withdrawing.refresh_latest(session, row)
    _note(session, row, None)


def note_unchanged(session: Session, namespace: str, name: str) -> None:
    """Remembers that the other hub says what it has said before."""
    row = _adapter(session, namespace, name)
    kept = session.get(MirroredAdapter, row.id) if row else None
    if kept is not None:
        kept.checked_at = db.now(session)


def _account(session: Session, namespace: str, origin: str) -> Account:
    accounts.mirror(session, namespace, origin, at=db.now(session))
    account = accounts.known(session, namespace)
    if account is None or account.mirrored_from != origin:
        raise Conflict(f"{namespace} has just become somebody's here: ask for it again.", code="NAME_TAKEN")
    return account


def _adapter(session: Session, namespace: str, name: str) -> Adapter | None:
    account = accounts.known(session, namespace)
    return adapters.find_mirrored(session, namespace, name) if account and account.mirrored_from else None


def _held(session: Session, namespace: str, name: str) -> Adapter | None:
    """The adapter, locked until the transaction ends."""
    found = _adapter(session, namespace, name)
    if found is None:
        return None
    adapters.hold(session, found.account_id, name)
    session.expire_all()
    return _adapter(session, namespace, name)


def _is_here(session: Session, adapter: Adapter, namespace: str, selector: str) -> bool:
    plain = _plain(selector)
    if plain in _HEADS:
        return versions.newest_served(session, adapter.id) is not None
    if plain.startswith("sha256:") and blob_rows.holders(session, adapter.id, plain.removeprefix("sha256:")):
        return True
    if _SHORT_COMMIT.fullmatch(plain):
        return len(versions.by_commit_prefix(session, adapter.id, plain)) == 1
    try:
        select_version(session, adapter, AdapterRef(namespace, adapter.name, plain))
    except (HubError, VeraError):
        return False
    return True


def _plain(selector: str) -> str:
    selector = selector.replace("%2F", "/")
    for prefix in _PREFIXES:
        selector = selector.removeprefix(prefix)
    return selector.partition("@sha256:")[0] if selector.startswith("v") else selector


def _means(version: VersionSummary, plain: str) -> bool:
    is_commit = _SHORT_COMMIT.fullmatch(plain) is not None and version.commit.startswith(plain)
    return is_commit or plain in (f"v{version.version}", version.digest, version.digest.replace(":", "-"))


def _prepare_adapter(
    session: Session, account: Account, upload: Upload, told: VersionDetail, adapter: AdapterDetail
) -> Adapter:
    """The adapter, made when it is new, held until the transaction ends."""
    insert_new(
        session,
        Adapter,
        account_id=account.id,
        name=adapter.name,
        folded_name=fold_name(adapter.name),
        base_id=bases.require_base(session, upload.manifest).id,
        is_private=adapter.visibility == "private",
        last_number=told.version - 1,
        created_at=adapter.created_at,
        updated_at=adapter.updated_at,
    )
    row = adapters.hold(session, account.id, adapter.name)
    if row is None:
        raise claiming.name_taken(session, account.id, Resource(account.name, adapter.name), fold_name(adapter.name))
    return row


def _speaking_for(account: Account, told: VersionDetail | None = None) -> Principal:
    return Principal(
        account.id,
        0,
        ACTOR,
        "organisation",
        frozenset(Scope),
        grants=(Grant(account.id, account.name, Role.OWNER),),
        provenance=told.provenance if told else None,
    )


def said_of(told: VersionDetail) -> Said:
    """What the push that made it has said. Raises Invalid."""
    source = told.source
    return Said(
        message=told.message,
        is_prerelease=told.prerelease,
        commit=source.commit if source else None,
        run=source.run if source else None,
    )


def _parent_id(session: Session, row: Adapter, told: VersionDetail) -> int | None:
    """The version it was made from, where that is one of this adapter and here."""
    home, _, number = (told.parent or "").rpartition("@v")
    if home != told.id or not number.isdigit():
        return None
    parent = versions.by_number(session, row.id, int(number))
    return parent.id if parent else None


def _withdraw(
    session: Session, principal: Principal, origin: str, version: Version, told: VersionSummary | None
) -> None:
    """Makes one version as withdrawn as it is there. What was deleted here stays so."""
    if version.delete_reason is not None:
        return
    if told is None or told.digest != version.digest:  # versions do not change: that hub was set up anew
        _quarantine(session, principal, version, origin, "it is another version there now")
        return
    if told.deleted is not None:
        for name in aliases.names_of(session, version.id):
            _remove_alias(session, version.adapter, name, version.number)
        withdrawing.bury(session, version, told.deleted)
        record(session, principal, Change.VERSION_DELETED, ref_of(version), {"reason": told.deleted})
        return
    if told.quarantined is not None:
        _quarantine(session, principal, version, origin, told.quarantined)
    elif (version.quarantine_reason or "").startswith(f"{origin}: "):  # one of our own admins' stays
        version.quarantine_reason = None
        record(session, principal, Change.VERSION_RELEASED, ref_of(version))
    if version.yank_reason != told.yanked:
        version.yank_reason = told.yanked
        change = Change.VERSION_UNYANKED if told.yanked is None else Change.VERSION_YANKED
        record(session, principal, change, ref_of(version), {"reason": told.yanked} if told.yanked else None)
    version.deprecation = told.deprecated.message if told.deprecated else None
    version.replacement = told.deprecated.replacement if told.deprecated else None


def _quarantine(session: Session, principal: Principal, version: Version, origin: str, reason: str) -> None:
    if version.quarantine_reason is not None or version.delete_reason is not None:
        return
    version.quarantine_reason = f"{origin}: {reason}"
    record(session, principal, Change.VERSION_QUARANTINED, ref_of(version), {"reason": version.quarantine_reason})


def _place_aliases(session: Session, row: Adapter, detail: AdapterDetail) -> None:
    here = {version.number: version for version in versions.all_of(session, row.id)}
    told = {each.name: each for each in detail.aliases if each.version in here}
    for current in aliases.all_of(session, row.id):
        if current.alias.name not in told:  # gone, or means a version that nobody has asked for here
            _remove_alias(session, row, current.alias.name, current.version.number)
    for name, each in told.items():
        _place_alias(session, row, here[each.version], name, is_protected=each.protected)


def _place_alias(session: Session, row: Adapter, version: Version, name: str, *, is_protected: bool) -> None:
    current = aliases.find(session, row.id, name)
    alias = current.alias if current else Alias(adapter_id=row.id, name=name)
    before = current.version.number if current else None
    if before != version.number:
        at = db.now(session)
        move = aliases.note_move(
            session, row.id, name, before=before, after=version.number, by_id=row.account_id, at=at
        )
        alias.version_id, alias.move_id = version.id, move.id
    alias.is_protected = is_protected
    session.add(alias)
    session.flush()


def _remove_alias(session: Session, row: Adapter, name: str, before: int) -> None:
    aliases.remove(session, row.id, name)
    aliases.note_move(session, row.id, name, before=before, after=None, by_id=row.account_id, at=db.now(session))


def _note(session: Session, row: Adapter, etag: str | None) -> None:
    at = db.now(session)
    insert_new(session, MirroredAdapter, adapter_id=row.id, checked_at=at)
    kept = session.get(MirroredAdapter, row.id, populate_existing=True)
    assert kept is not None
    kept.checked_at, kept.etag = at, etag[:200] if etag else None
    session.flush()
