"""Versions of an adapter: by number, commit and digest."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session, joinedload

from hub.db.models import Account, Adapter, Version, VersionFile


def all_of(session: Session, adapter_id: int) -> list[Version]:
    """Every version, newest first."""
    query = _with_author().where(Version.adapter_id == adapter_id).order_by(Version.number.desc())
    return list(session.scalars(query))


def latest(session: Session, adapter_id: int) -> Version | None:
    return session.scalar(_of(adapter_id).order_by(Version.number.desc()).limit(1))


def by_number(session: Session, adapter_id: int, number: int) -> Version | None:
    return session.scalar(_of(adapter_id).where(Version.number == number))


def by_commit(session: Session, adapter_id: int, commit: str) -> Version | None:
    return session.scalar(_of(adapter_id).where(Version.commit == commit))


def by_commit_prefix(session: Session, adapter_id: int, prefix: str) -> list[Version]:
    """Those whose commit begins so, two at most: more than one is as good as none."""
    return list(session.scalars(_of(adapter_id).where(Version.commit.startswith(prefix, autoescape=True)).limit(2)))


def by_digest(session: Session, adapter_id: int, digest: str) -> Version | None:
    return session.scalar(_of(adapter_id).where(Version.digest == digest))


def latest_of_each(session: Session, adapters: Sequence[tuple[str, str]]) -> list[Version]:
    """The latest version of each of these adapters, named by (namespace, name)."""
    query = (
        _with_author()
        .join(Adapter, Adapter.id == Version.adapter_id)
        .join(Account, Account.id == Adapter.account_id)
        .where(tuple_(Account.name, Adapter.name).in_(adapters), Version.number == Adapter.last_number)
    )
    return list(session.scalars(query))


def files_of(session: Session, version_id: int) -> list[VersionFile]:
    query = select(VersionFile).where(VersionFile.version_id == version_id).order_by(VersionFile.path)
    return list(session.scalars(query))


def files_until(session: Session, commit: str) -> list[tuple[Version, str, str]]:
    """Version, path and hash of each file of the version with this commit and of those before it, newest first."""
    last = select(Version.adapter_id, Version.number).where(Version.commit == commit).subquery()
    query = (
        _with_author()
        .add_columns(VersionFile.path, VersionFile.sha256)
        .join(VersionFile, VersionFile.version_id == Version.id)
        .join(last, (Version.adapter_id == last.c.adapter_id) & (Version.number <= last.c.number))
        .order_by(Version.number.desc())
    )
    return [(version, path, sha256) for version, path, sha256 in session.execute(query)]


def card_of(session: Session, version_id: int) -> str:
    return session.scalars(select(Version.card_html).where(Version.id == version_id)).one()


def _of(adapter_id: int) -> Select[Version]:
    return _with_author().where(Version.adapter_id == adapter_id)


def _with_author() -> Select[Version]:
    return select(Version).options(
        joinedload(Version.created_by),
        joinedload(Version.adapter).joinedload(Adapter.account),
        joinedload(Version.base),
    )
