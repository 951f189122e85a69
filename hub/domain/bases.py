"""Base models: registered once, with the hash of every tensor, and named by fingerprint from then on."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Sequence

from sqlalchemy.orm import Session

from hub.db import session as db
from hub.db.models import Base
from hub.db.queries import bases
from hub.db.queries.bases import CountedBase
from hub.db.queries.inserting import insert_new
from hub.domain import paging
from hub.domain.shaping import base_view
from hub.domain.views import BaseDetail, BaseView, Page, TensorRow
from hub.errors import Invalid, NotFound
from vera.fingerprint import BaseFingerprint, TensorRecord
from vera.tensorfile import BASE_LIMITS, ITEM_BYTES

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_TEXT = 200


def register_base(
    session: Session, name: str, revision: str | None, tensors: Sequence[Sequence[object]]
) -> tuple[BaseView, bool]:
    """The base with this tensor table, and whether it is new. A known one keeps the name it has.

    Raises Invalid for a table that no checkpoint has.
    """
    _check_text("name", name)
    if revision is not None:
        _check_text("revision", revision)
    fingerprint = BaseFingerprint.of_records(_records(tensors))
    is_new = insert_new(
        session,
        Base,
        fingerprint=fingerprint.value,
        name=name,
        revision=revision,
        dtype=fingerprint.dtype,
        parameters=sum(math.prod(record.shape) for record in fingerprint.tensors if record.is_float),
        size_bytes=sum(math.prod(record.shape) * ITEM_BYTES[record.dtype] for record in fingerprint.tensors),
        tensor_count=len(fingerprint.tensors),
        tensors=zlib.compress(json.dumps(fingerprint.to_rows(), separators=(",", ":")).encode()),
        created_at=db.now(session),
    )
    return base_view(find_base(session, fingerprint.value)), is_new


def list_bases(
    session: Session, *, name: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[BaseView]:
    """Bases in the order of their names."""
    keys = paging.decode(cursor, "bases", int)
    rows = bases.page(session, name=name, after=int(keys[0]) if keys else None, limit=limit + 1)
    return paging.page(rows, limit, base_view, lambda row: paging.encode("bases", row.base.id))


def get_base(session: Session, fingerprint: str) -> BaseDetail:
    """The base and its tensor table. Raises NotFound."""
    counted = find_base(session, fingerprint)
    return BaseDetail(**vars(base_view(counted)), tensors=tuple(tensor_table(session, counted.base.id)))


def find_base(session: Session, fingerprint: str) -> CountedBase:
    """Raises NotFound."""
    counted = bases.by_fingerprint(session, fingerprint)
    if counted is None:
        raise NotFound(
            f"No base {fingerprint[:80]} is registered here: register it with `vera-hub base add`.",
            code="BASE_UNKNOWN",
            fingerprint=fingerprint[:80],
        )
    return counted


def tensor_table(session: Session, base_id: int) -> list[TensorRow]:
    rows = json.loads(zlib.decompress(bases.tensors_of(session, base_id)))
    return [(name, dtype, tuple(shape), sha256) for name, dtype, shape, sha256 in rows]


def _records(rows: Sequence[Sequence[object]]) -> list[TensorRecord]:
    records = [_record(row) for row in rows]
    if not records or len({record.name for record in records}) != len(records):
        raise _bad_table("it is empty or names a tensor twice")
    return records


def _record(row: Sequence[object]) -> TensorRecord:
    """One row, held to what a checkpoint can have: a tab in a name would make two tables one fingerprint."""
    if len(row) != 4:
        raise _bad_table("a row is not name, dtype, shape and sha256")
    name, dtype, shape, sha256 = row
    if not isinstance(name, str) or len(name) > BASE_LIMITS.max_name or not BASE_LIMITS.name.fullmatch(name):
        raise _bad_table(f"{str(name)[:80]!r} is no tensor name")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise _bad_table(f"{name[:80]} has the dtype {str(dtype)[:20]!r}")
    if not (isinstance(shape, list) and len(shape) <= BASE_LIMITS.max_dims and all(type(n) is int for n in shape)):
        raise _bad_table(f"{name[:80]} has no proper shape")
    if min(shape, default=1) < 0 or math.prod(shape) > BASE_LIMITS.max_items:
        raise _bad_table(f"{name[:80]} has an impossible size")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise _bad_table(f"{name[:80]} has no sha256 of 64 hex digits")
    return TensorRecord(name, dtype, tuple(shape), sha256)


def _check_text(field: str, text: str) -> None:
    if not 0 < len(text) <= _MAX_TEXT or not text.isprintable():
        raise Invalid(
            f"The {field} of a base must be 1 to {_MAX_TEXT} printable characters.", code="BASE_INVALID", field=field
        )


def _bad_table(what: str) -> Invalid:
    return Invalid(
        f"The tensor table cannot be a checkpoint's: {what}. `vera-hub base add` makes one from the files.",
        code="BASE_TABLE_INVALID",
    )
