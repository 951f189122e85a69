"""Who has asked for the files of gated adapters."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from hub.db.models.accounts import Account
from hub.db.models.adapters import AccessRequest


def of_user(session: Session, adapter_id: int, account_id: int) -> AccessRequest | None:
    mine = AccessRequest.adapter_id == adapter_id, AccessRequest.account_id == account_id
    return session.scalar(_whole().where(*mine).execution_options(populate_existing=True))


def hold(session: Session, adapter_id: int, account_id: int) -> None:
    """Locks the request until the transaction ends: what is decided comes one after another."""
    mine = AccessRequest.adapter_id == adapter_id, AccessRequest.account_id == account_id
    session.execute(select(AccessRequest.state).where(*mine).with_for_update())


def page(
    session: Session, adapter_id: int, state: str | None, *, after: str | None, limit: int | None
) -> Sequence[AccessRequest]:
    """Those of an adapter, by the names of the users."""
    query = _whole().join(AccessRequest.account).where(AccessRequest.adapter_id == adapter_id)
    if state is not None:
        query = query.where(AccessRequest.state == state)
    if after is not None:
        query = query.where(Account.name > after)
    return session.scalars(query.order_by(Account.name).limit(limit)).all()


def _whole() -> Select[AccessRequest]:
    return select(AccessRequest).options(joinedload(AccessRequest.account), joinedload(AccessRequest.decided_by))
