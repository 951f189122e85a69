"""Stored projections and their pieces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from hub.db.models import Projection, ProjectionPiece, Version


class SharedProjection(NamedTuple):
    """A projection, and how many adapters have a version that uses it."""

    projection: Projection
    adapter_count: int


def find(session: Session, digest: str) -> Projection | None:
    return session.get(Projection, digest)


def shared(session: Session, digest: str) -> SharedProjection | None:
    adapters = (
        select(func.count(Version.adapter_id.distinct()))
        .where(Version.stored_projection == Projection.digest)
        .correlate(Projection)
        .scalar_subquery()
    )
    row = session.execute(select(Projection, adapters).where(Projection.digest == digest)).first()
    return SharedProjection(*row) if row else None


def pieces_of(session: Session, digest: str) -> Sequence[str]:
    """The hashes of the pieces, in order."""
    query = select(ProjectionPiece.sha256).where(ProjectionPiece.digest == digest).order_by(ProjectionPiece.number)
    return session.scalars(query).all()
