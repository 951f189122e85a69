"""Adapters that have a name and no version yet: clients of git-like hubs make the place first and fill it afterwards.

Until its first version an adapter has no base, is in no list and on no page, and can be taken back.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize, unknown_adapter, viewer_of
from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.queries import accounts, adapters
from hub.db.queries.inserting import insert_new
from hub.domain.audit import Change, record
from hub.domain.claiming import NO_QUOTA, Quota, name_taken, over_quota, require_free
from hub.domain.mirroring import require_own
from hub.errors import Conflict, Forbidden
from vera.ref import check_adapter_id, fold_name

# What git calls a tree without files.
EMPTY_COMMIT = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def open_adapter(
    session: Session, principal: Principal, namespace: str, name: str, *, is_private: bool, quota: Quota = NO_QUOTA
) -> Adapter:
    """Makes `namespace/name`, without a version.

    Raises RefError for an impossible name, Conflict for one that is there or looks like one that is, and Forbidden.
    """
    check_adapter_id(namespace, name)
    wanted = Resource(namespace, name)
    if adapters.exists(session, viewer_of(principal), namespace, name):
        raise _exists(wanted)
    require_own(session, namespace)
    authorize(principal, Action.CREATE_ADAPTER, wanted)
    owner_id, folded, at = principal.account_in(namespace), fold_name(name), db.now(session)
    is_new = insert_new(
        session,
        Adapter,
        account_id=owner_id,
        name=name,
        folded_name=folded,
        base_id=None,
        is_private=is_private,
        last_number=0,
        created_at=at,
        updated_at=at,
    )
    if not is_new and adapters.hold(session, owner_id, name) is not None:
        raise _exists(wanted)
    if not is_new:
        raise name_taken(session, owner_id, wanted, folded)
    require_free(session, owner_id, wanted)
    _require_place(session, owner_id, quota)
    record(session, principal, Change.ADAPTER_OPENED, wanted.id, {"visibility": "private" if is_private else "public"})
    made = adapters.hold(session, owner_id, name)
    assert made is not None, "it was made in this transaction"
    return made


def find(session: Session, reader: Principal | None, namespace: str, name: str) -> Adapter | None:
    """The adapter while it has no version; None when it has one, is not there or is hidden from `reader`."""
    return adapters.find_empty(session, viewer_of(reader), namespace, name)


def set_visibility(session: Session, principal: Principal, namespace: str, name: str, *, is_private: bool) -> bool:
    """Says who may see the adapter. False when it is none without a version. Raises Forbidden."""
    opening = find(session, principal, namespace, name)
    if opening is None:
        return False
    authorize(principal, Action.MANAGE_ADAPTER, Resource(namespace, name, opening.is_private))
    if opening.is_private != is_private:
        opening.is_private = is_private
        facts = {"visibility": "private" if is_private else "public"}
        record(session, principal, Change.VISIBILITY_CHANGED, f"{namespace}/{name}", facts)
    return True


def take_back(session: Session, principal: Principal, namespace: str, name: str) -> None:
    """Removes the adapter, whose name is free again. Raises NotFound, and Forbidden for one with versions."""
    opening = find(session, principal, namespace, name)
    if opening is None and not adapters.exists(session, viewer_of(principal), namespace, name):
        raise unknown_adapter(namespace, name)
    wanted = Resource(namespace, name, opening is not None and opening.is_private)
    authorize(principal, Action.MANAGE_ADAPTER, wanted)
    if opening is None or not adapters.remove_empty(session, opening.id):
        raise Forbidden(
            f"{wanted.id} has versions, which others may rely on: it stays. Make it private, or take single versions back.",
            code="ADAPTER_NOT_EMPTY",
        )
    record(session, principal, Change.ADAPTER_TAKEN_BACK, wanted.id)


def _require_place(session: Session, owner_id: int, quota: Quota) -> None:
    if quota.adapters is None:
        return
    accounts.hold(session, owner_id)
    count, _ = accounts.usage(session, owner_id)
    if count > quota.adapters:
        raise over_quota("adapters", count, quota.adapters)


def _exists(wanted: Resource) -> Conflict:
    return Conflict(f"{wanted.id} exists already: push to it, or choose another name.", code="ADAPTER_EXISTS")
