"""Base models: registered once, with the hash of every tensor, and named by fingerprint from then on."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Principal, viewer_of
from hub.db import session as db
from hub.db.models.adapters import Base
from hub.db.queries import accounts, bases
from hub.db.queries.bases import CountedBase, KnownBase
from hub.db.queries.inserting import insert_new
from hub.domain import paging
from hub.domain.audit import Change, record
from hub.domain.shaping import base_view
from hub.domain.views.bases import BaseDetail, BaseView, TensorRow
from hub.domain.views.page import Page
from hub.errors import Forbidden, Invalid, NotFound
from vera.fingerprint import BaseFingerprint
from vera.manifest import AdaptedModule, Manifest
from vera.tensorfile import ITEM_BYTES

_OPERATOR = "admin"  # in the record, in the place of a user
_MAX_TEXT = 200
_MOST_KEPT = 16
_shapes: dict[str, Mapping[str, tuple[int, ...]]] = {}  # by fingerprint, which is the hash of all of it


def register_base(
    session: Session,
    reader: Principal | None,
    name: str,
    revision: str | None,
    tensors: Sequence[Sequence[object]],
    *,
    most: int | None = None,
) -> tuple[BaseView, bool]:
    """The base with this tensor table, and whether it is new. A known one keeps the name it has.

    Raises Invalid for a name that cannot be shown, vera's BaseUnreadable for a table that no checkpoint has, and Forbidden
    for a new one of who has registered the `most` that one account may.
    """
    _check_text("name", name)
    if revision is not None:
        _check_text("revision", revision)
    fingerprint = BaseFingerprint.from_rows(tensors)
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
        created_by_id=(reader.account_id or None) if reader else None,  # who imports is no account
        created_at=db.now(session),
    )
    if is_new and reader is not None and most is not None:
        _require_few(session, reader, most)
    if is_new:
        record(session, reader, Change.BASE_REGISTERED, name, {"fingerprint": fingerprint.value, "revision": revision})
    return base_view(find_base(session, reader, fingerprint.value)), is_new


def rename(session: Session, fingerprint: str, name: str) -> tuple[int, str]:
    """Gives a base another name, as the hub's operator. Its id, and what it was called; lists of its adapters do not follow by
    themselves. Raises NotFound, and Invalid for a name that cannot be shown."""
    _check_text("name", name)
    base = find_base(session, None, fingerprint).base
    before = base.name
    if name != before:
        base.name = name
        record(
            session, None, Change.BASE_RENAMED, name, {"fingerprint": fingerprint, "before": before}, actor=_OPERATOR
        )
    return base.id, before


def list_bases(
    session: Session, reader: Principal | None, *, name: str | None = None, cursor: str | None = None, limit: int = 50
) -> Page[BaseView]:
    """Bases in the order of their names."""
    keys = paging.decode(session, cursor, "bases", int)
    rows = bases.page(session, viewer_of(reader), name=name, after=int(keys[0]) if keys else None, limit=limit + 1)
    return paging.page(rows, limit, base_view, lambda row: paging.encode(session, "bases", row.base.id))


def get_base(session: Session, reader: Principal | None, fingerprint: str) -> BaseDetail:
    """The base and its tensor table. Raises NotFound."""
    counted = find_base(session, reader, fingerprint)
    return BaseDetail(**vars(base_view(counted)), tensors=tuple(tensor_table(session, counted.base.id)))


def find_base(session: Session, reader: Principal | None, fingerprint: str) -> CountedBase:
    """The base, with the number of its adapters that `reader` may see. Raises NotFound."""
    counted = bases.by_fingerprint(session, viewer_of(reader), fingerprint)
    if counted is None:
        raise NotFound(
            f"No base {fingerprint[:80]} is registered here: register it with `vera-hub base add`.",
            code="BASE_UNKNOWN",
            fingerprint=fingerprint[:80],
        )
    return counted


def is_known(session: Session, fingerprint: str) -> bool:
    return bases.find(session, fingerprint) is not None


def require_base(session: Session, manifest: Manifest) -> KnownBase:
    """The base that the adapter is for, proven to have every adapted module in the size the manifest says.

    Raises Invalid.
    """
    base = bases.find(session, manifest.base.fingerprint)
    if base is None:
        raise Invalid(
            f"The base {manifest.base.name} ({manifest.base.fingerprint}) is not registered here: register it first, "
            f"`vera-hub base add PATH_OR_ID --name {manifest.base.name}`.",
            code="BASE_UNKNOWN",
            fingerprint=manifest.base.fingerprint,
            name=manifest.base.name,
        )
    shapes = shapes_of(session, base)
    for module in manifest.modules:
        _check_target(module, shapes, base.name)
    return base


def tensor_table(session: Session, base_id: int) -> list[TensorRow]:
    return [(name, dtype, tuple(shape), sha256) for name, dtype, shape, sha256 in _rows(session, base_id)]


def shapes_of(session: Session, base: KnownBase) -> Mapping[str, tuple[int, ...]]:
    """The shape of each tensor of the base, by name. Those of the last few bases are kept: a base never changes."""
    known = _shapes.get(base.fingerprint)
    if known is None:
        known = {name: shape for name, _, shape, _ in tensor_table(session, base.id)}
        while len(_shapes) >= _MOST_KEPT:
            _shapes.pop(next(iter(_shapes)), None)
        _shapes[base.fingerprint] = known
    return known


def fingerprint_of(session: Session, base_id: int) -> BaseFingerprint:
    """The base's table as what it was registered as."""
    return BaseFingerprint.from_rows(_rows(session, base_id))


def _rows(session: Session, base_id: int) -> list[list[Any]]:
    rows: list[list[Any]] = json.loads(zlib.decompress(bases.tensors_of(session, base_id)))
    return rows


def _check_target(module: AdaptedModule, shapes: Mapping[str, tuple[int, ...]], base: str) -> None:
    shape = shapes.get(module.weight)
    if shape is None:
        raise Invalid(
            f"{base} has no tensor {module.weight}, and the adapter adapts {module.name}: is it an adapter of this base?",
            code="TARGET_UNKNOWN",
            module=module.name,
            base=base,
        )
    expected = (module.out_features, module.in_features)
    # A Conv1D layer, as GPT-2 has them, keeps its weight as (in, out), and so does an embedding.
    if shape not in (expected, expected[::-1]):
        raise Invalid(
            f"{module.name} is {expected} (out, in) in the adapter and {shape} in {base}: "
            "it was trained on another model.",
            code="DIMS_MISMATCH",
            module=module.name,
            expected=list(shape),
            got=list(expected),
        )


def _require_few(session: Session, principal: Principal, most: int) -> None:
    accounts.hold(session, principal.account_id)  # two at once do not both take the last
    count = bases.count_of(session, principal.account_id)
    if count > most:
        raise Forbidden(
            f"With this base {principal.name} would have registered {count:,} here, and may register {most:,}: ask the "
            "hub's operator for more. Adapters of a base that is known here need none.",
            code="QUOTA_EXCEEDED",
            what="bases",
            limit=most,
            wanted=count,
        )


def _check_text(field: str, text: str) -> None:
    if not 0 < len(text) <= _MAX_TEXT or not text.isprintable():
        raise Invalid(
            f"The {field} of a base must be 1 to {_MAX_TEXT} printable characters.", code="BASE_INVALID", field=field
        )
