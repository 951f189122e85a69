"""Drafts: commits that are no version, their files, and what they are called."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Select, delete, func, insert, select, union_all, update
from sqlalchemy.orm import Session, joinedload

from hub.db.models.adapters import Adapter
from hub.db.models.versions import Draft, DraftFile, DraftName, Version


def add(session: Session, draft: Draft, files: Mapping[str, tuple[str, int]]) -> None:
    """Keeps the draft with `files`, the hash and the size of each by its path."""
    session.add(draft)
    session.flush()
    rows = [
        {"draft_id": draft.id, "path": path, "sha256": sha256, "size_bytes": size_bytes}
        for path, (sha256, size_bytes) in sorted(files.items())
    ]
    if rows:
        session.execute(insert(DraftFile), rows)


def newest_on_main(session: Session, adapter_id: int, beneath_id: int | None) -> Draft | None:
    """The last draft on `main` that stands on this version, or on none."""
    beneath = Draft.beneath_id.is_(None) if beneath_id is None else Draft.beneath_id == beneath_id
    return session.scalar(_of(adapter_id).where(Draft.is_main, beneath).order_by(Draft.id.desc()).limit(1))


def by_commit_prefix(session: Session, adapter_id: int, prefix: str) -> list[Draft]:
    """Those whose commit begins so, two at most: more than one is as good as none."""
    return list(session.scalars(_of(adapter_id).where(Draft.commit.startswith(prefix, autoescape=True)).limit(2)))


def all_of(session: Session, adapter_id: int) -> list[Draft]:
    """Every draft of the adapter, newest first."""
    return list(session.scalars(_of(adapter_id).order_by(Draft.id.desc())))


def count(session: Session, adapter_id: int) -> int:
    return session.scalar(select(func.count()).where(Draft.adapter_id == adapter_id)) or 0


def files_of(session: Session, draft_id: int) -> list[DraftFile]:
    return list(session.scalars(select(DraftFile).where(DraftFile.draft_id == draft_id).order_by(DraftFile.path)))


def files_of_each(session: Session, draft_ids: Collection[int]) -> dict[int, dict[str, str]]:
    """The hashes of the files of these drafts, by path."""
    found: dict[int, dict[str, str]] = {each: {} for each in draft_ids}
    for row in session.scalars(select(DraftFile).where(DraftFile.draft_id.in_(draft_ids))):
        found[row.draft_id][row.path] = row.sha256
    return found


def remove(session: Session, draft_ids: Collection[int]) -> None:
    session.execute(delete(Draft).where(Draft.id.in_(draft_ids)))


def remove_on(session: Session, version_id: int) -> list[tuple[str, str]]:
    """Removes what stands on the version, and the branches and tags that lead there or to the version itself, which it gives
    in order, by kind and name."""
    leads_there = DraftName.commit.in_(
        union_all(
            select(Draft.commit).where(Draft.beneath_id == version_id),
            select(Version.commit).where(Version.id == version_id),
        )
    )
    of_its_adapter = select(Version.adapter_id).where(Version.id == version_id).scalar_subquery()
    gone = delete(DraftName).where(DraftName.adapter_id == of_its_adapter, leads_there)
    names = session.execute(gone.returning(DraftName.kind, DraftName.name)).all()
    session.execute(delete(Draft).where(Draft.beneath_id == version_id))
    return sorted((kind, name) for kind, name in names)


def leave_main(session: Session, draft_ids: Collection[int]) -> None:
    """Takes these drafts off `main`: only branches and tags lead to them."""
    session.execute(update(Draft).where(Draft.id.in_(draft_ids)).values(is_main=False))


def used_bytes(session: Session, account_id: int) -> int:
    """The bytes of all drafts of the account's adapters; a file that several have counts once for each adapter."""
    files = (
        select(Draft.adapter_id, DraftFile.sha256, DraftFile.size_bytes)
        .join(DraftFile, DraftFile.draft_id == Draft.id)
        .join(Adapter, Adapter.id == Draft.adapter_id)
        .where(Adapter.account_id == account_id)
        .distinct()
        .subquery()
    )
    return int(session.scalar(select(func.sum(files.c.size_bytes))) or 0)


# -- Names ----------------------------------------------------------------------------------------


def names_of(session: Session, adapter_id: int) -> Sequence[DraftName]:
    query = select(DraftName).where(DraftName.adapter_id == adapter_id)
    return session.scalars(query.order_by(DraftName.kind, DraftName.name)).all()


def find_name(session: Session, adapter_id: int, kind: str, name: str) -> DraftName | None:
    return session.get(DraftName, (adapter_id, kind, name), populate_existing=True)


def set_name(session: Session, adapter_id: int, kind: str, name: str, commit: str) -> None:
    session.merge(DraftName(adapter_id=adapter_id, kind=kind, name=name, commit=commit))
    session.flush()


def remove_name(session: Session, adapter_id: int, kind: str, name: str) -> None:
    mine = DraftName.adapter_id == adapter_id, DraftName.kind == kind, DraftName.name == name
    session.execute(delete(DraftName).where(*mine))


def _of(adapter_id: int) -> Select[Draft]:
    return select(Draft).options(joinedload(Draft.created_by)).where(Draft.adapter_id == adapter_id)
