"""Versions of an adapter: by number, commit and digest, and which of them may be had.

served    neither in quarantine nor deleted
current   served, not yanked and no pre-release: what `latest` may mean
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    and_,
    bindparam,
    delete,
    false,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, joinedload

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Version, VersionFile
from hub.db.prepared import Prepared
from hub.db.queries.visibility import Viewer, is_visible

_ADDED = Prepared(insert(Version.__table__).returning(Version.__table__.c.id))  # type: ignore[arg-type]  # it is a Table
_FILES_ADDED = Prepared(insert(VersionFile.__table__))  # type: ignore[arg-type]
_FILES = VersionFile.__table__.c
# Made once, of columns alone: every answer about a version asks for them.
_FILES_OF = (
    select(_FILES.path, _FILES.sha256, _FILES.size_bytes)
    .where(_FILES.version_id == bindparam("version_id"))
    .order_by(_FILES.path)
)
_CARD_OF = select(Version.__table__.c.card_html).where(Version.__table__.c.id == bindparam("version_id"))


class Given(NamedTuple):
    """What decides whether the files of a version are given, and what is said with them."""

    version_id: int
    adapter_id: int
    namespace: str
    name: str
    is_private: bool
    gate: str | None
    number: int
    commit: str
    digest: str
    weights_digest: str
    size_bytes: int
    yank_reason: str | None
    deprecation: str | None
    replacement: str | None
    created_by_id: int
    fetched_at: datetime | None


class KeptFile(NamedTuple):
    """A file of a version."""

    path: str
    sha256: str
    size_bytes: int


def add(session: Session, **values: Any) -> Version:
    """Inserts a version past the unit of work, which takes several times as long. What it gives is not the session's."""
    return Version(id=_ADDED.scalar(session, values), **values)


def add_files(session: Session, version_id: int, files: Mapping[str, tuple[str, int]]) -> None:
    """Keeps what the version's files are: the hash and the size in bytes of each, by its path."""
    _FILES_ADDED.run(
        session,
        *(
            {"version_id": version_id, "path": path, "sha256": sha256, "size_bytes": size_bytes}
            for path, (sha256, size_bytes) in files.items()
        ),
    )


def all_of(session: Session, adapter_id: int) -> list[Version]:
    """Every version, newest first."""
    query = _with_author().where(Version.adapter_id == adapter_id).order_by(Version.number.desc())
    return list(session.scalars(query))


def newest_current(session: Session, adapter_id: int) -> Version | None:
    """What `latest` is to mean."""
    return session.scalar(_newest_current(), {"adapter_id": adapter_id})


def newest_served(session: Session, adapter_id: int) -> Version | None:
    """The newest that can be had, a pre-release or a yanked one too."""
    return session.scalar(_of(adapter_id).where(is_served()).order_by(Version.number.desc()).limit(1))


def by_id(session: Session, version_id: int) -> Version | None:
    return session.scalar(_with_author().where(Version.id == version_id))


def place_of(session: Session, version_id: int) -> tuple[int, int]:
    """The adapter (its id) and the number of a version that exists."""
    adapter_id, number = session.execute(
        select(Version.adapter_id, Version.number).where(Version.id == version_id)
    ).one()
    return adapter_id, number


def by_number(session: Session, adapter_id: int, number: int) -> Version | None:
    return session.scalar(_by_number(), {"adapter_id": adapter_id, "number": number})


def find_given(session: Session, viewer: Viewer, namespace: str, name: str, number: int) -> Given | None:
    """The version by its number, with its adapter, in one statement and of columns alone: what everybody asks for who
    fetches something. None when it cannot be had or is hidden from `viewer`."""
    row = session.execute(_given_to(viewer), {"namespace": namespace, "name": name, "number": number}).first()
    return Given._make(row) if row else None


def by_commit(session: Session, adapter_id: int, commit: str) -> Version | None:
    return session.scalar(_of(adapter_id).where(Version.commit == commit))


def has_commit(session: Session, commit: str) -> bool:
    """True when some version, of whichever adapter, has this commit."""
    return session.scalar(select(Version.id).where(Version.commit == commit)) is not None


def by_commit_prefix(session: Session, adapter_id: int, prefix: str) -> list[Version]:
    """Those whose commit begins so, two at most: more than one is as good as none."""
    return list(session.scalars(_of(adapter_id).where(Version.commit.startswith(prefix, autoescape=True)).limit(2)))


def by_digest(session: Session, adapter_id: int, digest: str) -> Version | None:
    return session.scalar(_by_digest(), {"adapter_id": adapter_id, "digest": digest})


def latest_of_each(session: Session, adapters: Sequence[tuple[str, str]]) -> list[Version]:
    """The latest version of each of these adapters, named by (namespace, name)."""
    owners = select(Account).where(Account.name.in_({namespace for namespace, _ in adapters}))
    ids = {account.name: account.id for account in session.scalars(owners)}
    # Pair by pair, so that each is looked up: SQLite goes through all versions for a list of pairs.
    named = [
        and_(Adapter.account_id == ids[namespace], Adapter.name == name)
        for namespace, name in adapters
        if namespace in ids
    ]
    query = _with_author().join(Adapter, (Adapter.id == Version.adapter_id) & (Version.number == Adapter.latest_number))
    return list(session.scalars(query.where(or_(*named)))) if named else []


def files_of(session: Session, version_id: int) -> list[KeptFile]:
    """The files of a version, by their paths."""
    return [KeptFile(*row) for row in session.execute(_FILES_OF, {"version_id": version_id})]


def card_of(session: Session, version_id: int) -> str:
    return str(session.scalars(_CARD_OF, {"version_id": version_id}).one())


def made_from(session: Session, viewer: Viewer, version_id: int, *, limit: int) -> list[Version]:
    """The versions whose parent it is, in any adapter that `viewer` may see, the latest first."""
    query = _with_author().join(Version.adapter).where(Version.parent_id == version_id, is_visible(viewer))
    return list(session.scalars(query.order_by(Version.id.desc()).limit(limit)))


def drop_files(session: Session, version_id: int) -> None:
    """Leaves the version without files. Their bytes stay as long as another version has them."""
    session.execute(delete(VersionFile).where(VersionFile.version_id == version_id))


def note_fetch(session: Session, version_ids: Sequence[int], *, at: datetime) -> None:
    """Remembers that somebody has fetched these versions, for those of which that was not known."""
    unknown = Version.id.in_(version_ids), Version.fetched_at.is_(None)
    session.execute(update(Version).where(*unknown).values(fetched_at=at))


def is_served() -> ColumnElement[bool]:
    """The condition on a `Version` row that can be had at all."""
    return and_(Version.quarantine_reason.is_(None), Version.deleted_at.is_(None))


def is_ranked() -> ColumnElement[bool]:
    """The condition on a `Version` row that stands on leaderboards and is evaluated by itself."""
    return and_(is_served(), Version.yank_reason.is_(None))


def is_current() -> ColumnElement[bool]:
    """The condition on a `Version` row that `latest` may mean."""
    return and_(is_ranked(), Version.is_prerelease == false())


# Those that every push and every answer about a version need are made once: that takes longer than running them.


@cache
def _by_number() -> Select[Version]:
    return _of(bindparam("adapter_id")).where(Version.number == bindparam("number"))


@lru_cache(maxsize=64)
def _given_to(viewer: Viewer) -> Select[Any]:
    columns: tuple[Any, ...] = (
        Version.id,
        Adapter.id,
        Account.name,
        Adapter.name,
        Adapter.is_private,
        Adapter.gate,
        Version.number,
        Version.commit,
        Version.digest,
        Version.weights_digest,
        Version.size_bytes,
        Version.yank_reason,
        Version.deprecation,
        Version.replacement,
        Version.created_by_id,
        Version.fetched_at,
    )
    named = Account.name == bindparam("namespace"), Adapter.name == bindparam("name")
    query = select(*columns).join(Adapter, Adapter.id == Version.adapter_id)
    return (
        query.join(Account, Account.id == Adapter.account_id)
        .where(*named, Version.number == bindparam("number"))
        .where(is_served(), is_visible(viewer))
    )


@cache
def _by_digest() -> Select[Version]:
    return _of(bindparam("adapter_id")).where(Version.digest == bindparam("digest"))


@cache
def _newest_current() -> Select[Version]:
    return _of(bindparam("adapter_id")).where(is_current()).order_by(Version.number.desc()).limit(1)


def _of(adapter_id: int | BindParameter[int]) -> Select[Version]:
    return _with_author().where(Version.adapter_id == adapter_id)


def _with_author() -> Select[Version]:
    return select(Version).options(
        joinedload(Version.created_by),
        joinedload(Version.adapter).joinedload(Adapter.account),
        joinedload(Version.base),
    )
