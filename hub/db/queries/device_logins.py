"""Programs that ask to be let in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from hub.db.models.accounts import DeviceLogin


def forget_expired(session: Session, *, at: datetime) -> None:
    session.execute(delete(DeviceLogin).where(DeviceLogin.expires_at <= at))


def count(session: Session, address: str | None = None) -> int:
    """How many there are, or how many from one address."""
    query = select(func.count()).select_from(DeviceLogin)
    return session.scalar(query if address is None else query.where(DeviceLogin.address == address)) or 0


def by_user_code(session: Session, user_code: str, *, at: datetime) -> DeviceLogin | None:
    """The one with this code, while nobody has answered it."""
    asked = DeviceLogin.user_code == user_code, DeviceLogin.state == "waiting", DeviceLogin.expires_at > at
    return session.scalar(select(DeviceLogin).where(*asked))


def by_hash(session: Session, code_hash: bytes, *, at: datetime) -> DeviceLogin | None:
    return session.scalar(select(DeviceLogin).where(DeviceLogin.hash == code_hash, DeviceLogin.expires_at > at))


def answer(
    session: Session, code_hash: bytes, *, state: str, account_id: int, scopes: list[str] | None, at: datetime
) -> bool:
    """True when this call has answered it, and no earlier one."""
    waiting = DeviceLogin.hash == code_hash, DeviceLogin.state == "waiting", DeviceLogin.expires_at > at
    values = {"state": state, "account_id": account_id, "scopes": scopes}
    answered = session.execute(update(DeviceLogin).where(*waiting).values(**values))
    return bool(answered.rowcount)  # type: ignore[attr-defined]  # a CursorResult: it is an UPDATE


def take(session: Session, code_hash: bytes) -> bool:
    """Removes it. True when this call has removed it: what may be collected once is collected by whoever gets True."""
    gone = delete(DeviceLogin).where(DeviceLogin.hash == code_hash).returning(DeviceLogin.state)
    return session.scalar(gone) is not None
