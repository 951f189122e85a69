"""An adapter gets another name, or another owner. Its old name leads to it for ever, and is given to no other: what a
reference means never becomes something else."""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize, viewer_of
from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.queries import accounts, adapters, listings, moves
from hub.domain import catalog, finding, openings
from hub.domain.audit import Change, record
from hub.domain.claiming import NO_QUOTA, Quota, over_quota, require_free
from hub.errors import Conflict
from vera.ref import check_adapter_id, fold_name


def move(
    session: Session,
    principal: Principal,
    namespace: str,
    name: str,
    *,
    to_namespace: str,
    to_name: str,
    quota: Quota = NO_QUOTA,
) -> None:
    """Makes `namespace/name` be `to_namespace/to_name`; where it is already, nothing happens.

    It takes a maintainer in both namespaces, and an owner of the one that it leaves. Publishers and webhooks of the
    adapter follow it to another name; to another owner, publishers do not. Tokens that are restricted to the old name
    reach it no longer. Raises RefError for an impossible name, NotFound, Forbidden, and Conflict for one that is taken.
    """
    check_adapter_id(to_namespace, to_name)
    adapter = _held(session, principal, namespace, name)
    old, new = Resource(namespace, name, adapter.is_private), Resource(to_namespace, to_name)
    if old.id == new.id:
        return
    if namespace != to_namespace:
        authorize(principal, Action.TRANSFER_ADAPTER, old)
    authorize(principal, Action.CREATE_ADAPTER, new)
    _rename(session, principal, adapter, new)
    if namespace == to_namespace:
        moves.rename_beside(session, adapter.account_id, name, to_name)
    else:
        moves.leave_behind(session, accounts.id_of(session, namespace) or 0, name)
        moves.give_evaluations(session, adapter.id, adapter.account_id)
        _require_place(session, adapter.account_id, quota)
    session.expire_all()
    if listings.of_adapter(session, adapter.id) is not None:
        finding.relist(session, catalog.find_adapter(session, principal, to_namespace, to_name))
    record(session, principal, Change.ADAPTER_MOVED, old.id, {"to": new.id})
    if namespace != to_namespace:
        record(session, principal, Change.ADAPTER_RECEIVED, new.id, {"from": old.id})


def _held(session: Session, principal: Principal, namespace: str, name: str) -> Adapter:
    opening = openings.find(session, principal, namespace, name)
    if opening is None:
        return catalog.hold_adapter(session, principal, namespace, name, to=Action.MANAGE_ADAPTER)
    authorize(principal, Action.MANAGE_ADAPTER, Resource(namespace, name, opening.is_private))
    return opening


def _rename(session: Session, principal: Principal, adapter: Adapter, new: Resource) -> None:
    owner_id, name = principal.account_in(new.namespace), new.adapter or ""
    accounts.hold(session, owner_id)
    if adapters.exists(session, viewer_of(principal), new.namespace, name):
        raise _taken(new)
    require_free(session, owner_id, new, but_for=adapter.id)
    similar = adapters.name_like(session, owner_id, fold_name(name))
    is_its_own = owner_id == adapter.account_id and similar == adapter.name
    if similar is not None and not is_its_own:
        raise Conflict(
            f"{new.id} looks like {new.namespace}/{similar}, which exists: choose a name that cannot be taken for it.",
            code="NAME_TOO_SIMILAR",
            similar=similar,
        )
    moves.remember(session, adapter, at=db.now(session))
    moves.forget(session, owner_id, name)
    adapter.account_id, adapter.name, adapter.folded_name = owner_id, name, fold_name(name)
    try:
        session.flush()
    except IntegrityError as error:  # somebody pushed to that name in between
        raise _taken(new) from error


def _require_place(session: Session, owner_id: int, quota: Quota) -> None:
    count, size_bytes = accounts.usage(session, owner_id)
    if quota.adapters is not None and count > quota.adapters:
        raise over_quota("adapters", count, quota.adapters)
    if quota.size_bytes is not None and size_bytes > quota.size_bytes:
        raise over_quota("bytes", size_bytes, quota.size_bytes)


def _taken(new: Resource) -> Conflict:
    return Conflict(f"{new.id} exists already: choose another name.", code="ADAPTER_EXISTS")
