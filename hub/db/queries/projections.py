"""Stored projections and their pieces."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from hub.db.models.objects import Projection, ProjectionHolder, ProjectionPiece
from hub.db.models.versions import Version
from hub.db.queries.inserting import insert_new
from hub.db.queries.visibility import Viewer, gives_files_to, is_visible

_RENEWED_EVERY = timedelta(hours=1)
# What is in quarantine gives out nothing, its pair neither.
_IS_GIVEN_OUT = Version.quarantine_reason.is_(None)
_HELD = (
    select(Projection.digest).where(Projection.digest == bindparam("digest")).with_for_update(read=True, key_share=True)
)


class SharedProjection(NamedTuple):
    """A projection, and how many visible adapters have a version that uses it and is given out."""

    projection: Projection
    adapter_count: int


def shared(session: Session, viewer: Viewer, digest: str, *, account_id: int | None) -> SharedProjection | None:
    """The projection, unless neither a visible adapter uses it nor this account has ever sent it."""
    users = (
        select(func.count(Version.adapter_id.distinct()))
        .join(Version.adapter)
        .where(Version.stored_projection == Projection.digest, _IS_GIVEN_OUT, is_visible(viewer))
        .correlate(Projection)
        .scalar_subquery()
    )
    reachable = or_(users > 0, _is_held_by(account_id)) if account_id is not None else users > 0
    row = session.execute(select(Projection, users).where(Projection.digest == digest, reachable)).first()
    return SharedProjection(*row) if row else None


def is_given(session: Session, viewer: Viewer, digest: str, *, account_id: int | None) -> bool:
    """True when some adapter that uses the projection gives its files to `viewer`, or this account has sent it."""
    giving = select(Version.adapter_id).join(Version.adapter)
    of_it = Version.stored_projection == digest, _IS_GIVEN_OUT
    used = giving.where(*of_it, is_visible(viewer), gives_files_to(viewer)).exists()
    reachable = used if account_id is None else or_(used, _is_held_by(account_id))
    return session.scalar(select(Projection.digest).where(Projection.digest == digest, reachable)) is not None


def note_holder(session: Session, digest: str, account_id: int) -> bool:
    """Remembers that the account has the projection. True when that is new."""
    return insert_new(session, ProjectionHolder, digest=digest, account_id=account_id)


def hold(session: Session, digest: str) -> bool:
    """Has the projection stay until the transaction ends. False when there is none: `admin gc` may just have ended."""
    return session.scalar(_HELD, {"digest": digest}) is not None


def renew(session: Session, digest: str, at: datetime) -> None:
    """Counts from now on how long the projection may wait for the first version that uses it, to the hour."""
    used = select(Version.id).where(Version.stored_projection == digest).exists()
    due = Projection.digest == digest, Projection.created_at < at - _RENEWED_EVERY, ~used
    session.execute(update(Projection).where(*due).values(created_at=at))


def pieces_of(session: Session, digest: str) -> Sequence[str]:
    """The hashes of the pieces, in order."""
    query = select(ProjectionPiece.sha256).where(ProjectionPiece.digest == digest).order_by(ProjectionPiece.number)
    return session.scalars(query).all()


def _is_held_by(account_id: int) -> ColumnElement[bool]:
    held = ProjectionHolder.digest == Projection.digest, ProjectionHolder.account_id == account_id
    return select(ProjectionHolder.digest).where(*held).correlate(Projection).exists()
