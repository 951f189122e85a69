"""Names that adapters have had."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session, contains_eager

from hub.db.models.accounts import Account, Publisher
from hub.db.models.adapters import Adapter, MovedName
from hub.db.models.evaluating import Evaluation
from hub.db.models.record import Webhook
from hub.db.models.versions import Version
from hub.db.prepared import Prepared
from hub.db.queries.visibility import Viewer, is_visible

_NAMES = MovedName.__table__.c
# Made once: every push of a new adapter asks for it.
_HOLDER = Prepared(
    select(_NAMES.adapter_id).where(_NAMES.account_id == bindparam("account_id"), _NAMES.name == bindparam("name"))
)


def adapter_of(session: Session, viewer: Viewer, namespace: str, name: str) -> Adapter | None:
    """The adapter, with its owner, that has had this name; None when it is hidden from `viewer`."""
    query = (
        select(Adapter)
        .join(MovedName, MovedName.adapter_id == Adapter.id)
        .join(Account, Account.id == Adapter.account_id)
        .options(contains_eager(Adapter.account))
    )
    had_by = select(Account.id).where(Account.name == namespace).scalar_subquery()
    return session.scalar(query.where(MovedName.account_id == had_by, MovedName.name == name, is_visible(viewer)))


def former_names(session: Session, adapter_id: int) -> list[str]:
    """The names, owner/name, that the adapter has had."""
    query = select(Account.name, MovedName.name).join(Account, Account.id == MovedName.account_id)
    rows = session.execute(query.where(MovedName.adapter_id == adapter_id))
    return [f"{owner}/{name}" for owner, name in rows]


def holder(session: Session, account_id: int, name: str) -> int | None:
    """The adapter that this name leads to."""
    holder: int | None = _HOLDER.scalar(session, {"account_id": account_id, "name": name})
    return holder


def remember(session: Session, adapter: Adapter, *, at: datetime) -> None:
    """Lets the name that the adapter has now lead to it when it has another."""
    session.add(MovedName(account_id=adapter.account_id, name=adapter.name, adapter_id=adapter.id, at=at))


def forget(session: Session, account_id: int, name: str) -> None:
    session.execute(delete(MovedName).where(MovedName.account_id == account_id, MovedName.name == name))


def rename_beside(session: Session, account_id: int, old: str, new: str) -> None:
    """Publishers and webhooks of the adapter follow it within its namespace."""
    for table in (Publisher, Webhook):
        theirs = table.account_id == account_id, table.adapter_name == old
        session.execute(update(table).where(*theirs).values(adapter_name=new))


def leave_behind(session: Session, account_id: int, name: str) -> None:
    """Publishers of an adapter that goes to another owner are trusted no longer."""
    session.execute(delete(Publisher).where(Publisher.account_id == account_id, Publisher.adapter_name == name))


def give_evaluations(session: Session, adapter_id: int, owner_id: int) -> None:
    """The queue counts the turns of the new owner."""
    versions = select(Version.id).where(Version.adapter_id == adapter_id)
    session.execute(update(Evaluation).where(Evaluation.version_id.in_(versions)).values(owner_id=owner_id))
