"""What every table is made of."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    MetaData,
    String,
)
from sqlalchemy.orm import DeclarativeBase

from hub.db.types import Key, UtcDateTime

# The names alembic and error messages use.
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


SHA256 = String(64)  # hex digits
DIGEST = String(71)  # sha256:<hex digits>
FINGERPRINT = String(69)  # vbf1:<hex digits>


# Of tables that can be made again from others: no backup holds them.
DERIVED = {"info": {"is_derived": True}}


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map = {datetime: UtcDateTime, int: Key}  # noqa: RUF012  # SQLAlchemy reads a plain dict here
