"""Random keys, made by whoever needs one first."""

from __future__ import annotations

import os

from sqlalchemy import select
from sqlalchemy.orm import Session

from hub.db.models.accounts import Secret
from hub.db.queries.inserting import insert_new

KEY_BYTES = 32


def ensure(session: Session, name: str) -> bytes:
    """The key `name`, made now when there is none."""
    found = session.scalar(select(Secret.value).where(Secret.name == name))
    if found is None:
        insert_new(session, Secret, name=name, value=os.urandom(KEY_BYTES))
        found = session.scalars(select(Secret.value).where(Secret.name == name)).one()
    return found
