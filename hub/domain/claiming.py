"""The name that a push is for, had or taken now, and the room that its owner has left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db.models.adapters import Adapter
from hub.db.queries import accounts, adapters, moves
from hub.db.queries.bases import KnownBase
from hub.db.queries.inserting import insert_numbered
from hub.domain.uploads import Upload
from hub.errors import Conflict, Forbidden, HubError, NotFound, Unavailable
from vera.ref import fold_name


@dataclass(frozen=True)
class Quota:
    """How much one user, or one organisation, may keep here. None is any amount."""

    adapters: int | None = None
    size_bytes: int | None = None


NO_QUOTA = Quota()


def claim_name(
    session: Session, principal: Principal, wanted: Resource, *, base: KnownBase, upload: Upload, at: datetime
) -> tuple[Adapter, bool]:
    """The adapter of this name, made when it is new, held until the transaction ends; and whether it is new."""
    authorize(principal, Action.PUSH, wanted)
    owner_id, name = principal.account_in(wanted.namespace), wanted.adapter or ""
    folded = fold_name(name)
    values: dict[str, Any] = {
        "account_id": owner_id,
        "name": name,
        "folded_name": folded,
        "base_id": base.id,
        "is_private": bool(upload.said.is_private),
        "last_number": 0,
        "created_at": at,
        "updated_at": at,
    }
    new_id = insert_numbered(session, Adapter, **values)
    if new_id is not None:
        authorize(principal, Action.CREATE_ADAPTER, wanted)
        require_free(session, owner_id, wanted)
        return Adapter(id=new_id, **values), True
    adapter = adapters.hold(session, owner_id, name)
    if adapter is None:
        raise name_taken(session, owner_id, wanted, folded)
    _require_same_visibility(adapter, wanted, upload)
    return adapter, False


def name_taken(session: Session, owner_id: int, wanted: Resource, folded: str) -> HubError:
    """Why a name is not to be had that nobody has: one that looks like it is there."""
    similar = adapters.name_like(session, owner_id, folded)
    if similar is None:  # the push that had it was rolled back just now
        return Unavailable(f"{wanted.id} is being pushed by someone else: try again.", code="DB_BUSY")
    return Conflict(
        f"{wanted.id} looks like {wanted.namespace}/{similar}, which exists: choose a name that cannot be "
        "taken for it, or push a new version of it.",
        code="NAME_TOO_SIMILAR",
        name=wanted.adapter,
        similar=similar,
    )


def require_free(session: Session, owner_id: int, wanted: Resource, *, but_for: int | None = None) -> None:
    """Raises Conflict for a name that leads to an adapter which has moved, unless that is the one `but_for`, and NotFound
    where the owner was deleted just now."""
    if not accounts.is_there(session, owner_id):
        raise NotFound(
            f"{wanted.namespace} was deleted, and nothing is added to it: use another namespace.",
            code="NAMESPACE_UNKNOWN",
            namespace=wanted.namespace,
        )
    holder = moves.holder(session, owner_id, wanted.adapter or "")
    if holder not in (None, but_for):
        raise Conflict(
            f"{wanted.id} is the name of an adapter that has moved, and leads to it: push there, or choose another name.",
            code="NAME_MOVED",
            name=wanted.id,
        )


def over_quota(what: str, wanted: int, limit: int) -> Forbidden:
    return Forbidden(
        f"With this push its owner would have {wanted:,} {what} here, and may have {limit:,}: push to another "
        "namespace, or ask the hub's operator for more.",
        code="QUOTA_EXCEEDED",
        what=what,
        limit=limit,
        wanted=wanted,
    )


def require_room(session: Session, adapter: Adapter, upload: Upload, quota: Quota) -> None:
    """Raises Forbidden when the new version, and its adapter where that is new, are more than the owner may keep."""
    if quota == NO_QUOTA:
        return
    accounts.hold(session, adapter.account_id)  # two pushes at once do not both take the last of it
    adapter_count, size_bytes = accounts.usage(session, adapter.account_id)  # this adapter is counted already
    for what, limit, wanted in (
        ("adapters", quota.adapters, adapter_count),
        ("bytes", quota.size_bytes, size_bytes + upload.archive.size_bytes),
    ):
        if limit is not None and wanted > limit:
            raise over_quota(what, wanted, limit)


def require_bytes(session: Session, account_id: int, quota: Quota) -> None:
    """Raises Forbidden when the account has more than it may keep, with what this transaction has added."""
    if quota.size_bytes is None:
        return
    accounts.hold(session, account_id)
    _, size_bytes = accounts.usage(session, account_id)
    if size_bytes > quota.size_bytes:
        raise over_quota("bytes", size_bytes, quota.size_bytes)


def _require_same_visibility(adapter: Adapter, wanted: Resource, upload: Upload) -> None:
    """A push that says "private" must never make something public, nor the other way round."""
    if upload.said.is_private is None or upload.said.is_private == adapter.is_private:
        return
    has, said = ("private", "public") if adapter.is_private else ("public", "private")
    raise Conflict(
        f"{wanted.id} is {has} and this push says {said}: leave that out, or have a maintainer change it with "
        f"`vera-hub visibility {wanted.id} {said}`. Nothing was published.",
        code="VISIBILITY_DIFFERS",
        expected=said,
        got=has,
    )
