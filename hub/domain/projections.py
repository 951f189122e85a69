"""Stored projections: pairs of matrices that follow no recipe, each kept once and shared by all who use it.

A pair is kept in pieces, each a blob of its own: whoever takes one in or gives one out holds a piece
of it in memory and never the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import BinaryIO

import numpy as np
from sqlalchemy.orm import Session

from hub.auth.policy import Principal, viewer_of
from hub.db import session as db
from hub.db.models.objects import Projection, ProjectionPiece
from hub.db.queries import projections
from hub.db.queries.inserting import insert_new
from hub.db.queries.projections import SharedProjection
from hub.domain import blobs
from hub.domain.claiming import NO_QUOTA, Quota, require_bytes
from hub.domain.views.versions import StoredProjectionView
from hub.errors import Forbidden, Invalid, NotFound
from vera.manifest import Manifest
from vera.stored import check_values

PIECE_BYTES = 4 << 20
_VALUE_BYTES = 4  # float32


def pieces(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of `file`, piece by piece from its start."""
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        yield piece


def check_pieces(found: Iterable[bytes]) -> int:
    """The bytes of a pair, all of whose values can be those of one. Raises Invalid, and vera's ArchiveError."""
    size_bytes = 0
    for piece in found:
        size_bytes += len(piece)
        if len(piece) % _VALUE_BYTES:
            break
        check_values(np.frombuffer(piece, "<f4"))
    if size_bytes == 0 or size_bytes % _VALUE_BYTES:
        raise Invalid(
            f"{size_bytes:,} bytes are no pair of float32 matrices: send A and then B, and nothing else.",
            code="PROJECTION_INVALID",
        )
    return size_bytes


def keep(
    session: Session,
    principal: Principal,
    digest: str,
    found: Iterable[bytes],
    *,
    size_bytes: int,
    outside: Mapping[str, datetime],
    quota: Quota = NO_QUOTA,
) -> bool:
    """Records the pair of these pieces, those not `outside` with their bytes, and that the principal has it.

    False when the principal has sent it before. That another has is not said: a digest is not to be probed. Raises Forbidden
    where a new one is more than the principal may keep.
    """
    at, is_new = db.now(session), False
    values = {"size_bytes": size_bytes, "created_by_id": principal.account_id, "created_at": at}
    while not (is_new or projections.hold(session, digest)):  # `admin gc` may come between
        is_new = insert_new(session, Projection, digest=digest, **values)
    if not is_new:
        projections.renew(session, digest, at)
    else:
        for number, piece in enumerate(found):
            sha256 = blobs.record(session, piece, outside)
            session.add(ProjectionPiece(digest=digest, number=number, sha256=sha256))
        session.flush()
        require_bytes(session, principal.account_id, quota)
    return projections.note_holder(session, digest, principal.account_id)


def keep_given(session: Session, principal: Principal, digest: str) -> bool:
    """`keep` of a pair that `principal` is given here, without its bytes. False when they have to be sent."""
    account_id = principal.account_id
    if not projections.hold(session, digest):
        return False
    if not projections.is_given(session, viewer_of(principal), digest, account_id=account_id):
        return False
    projections.renew(session, digest, db.now(session))
    projections.note_holder(session, digest, account_id)
    return True


def get_projection(session: Session, reader: Principal | None, digest: str) -> StoredProjectionView:
    """The pair, which an adapter uses that `reader` may see, or which `reader` has sent. Raises NotFound."""
    found = _find(session, reader, digest)
    if found is None:
        raise NotFound(
            f"The pair {digest} is not stored here: push an adapter that uses it with `vera-hub push`, which sends it.",
            code="PROJECTION_UNKNOWN",
            digest=digest,
        )
    projection, adapter_count = found
    return StoredProjectionView(
        digest=projection.digest,
        size_bytes=projection.size_bytes,
        adapter_count=adapter_count,
        created_at=projection.created_at,
    )


def require_given(session: Session, reader: Principal | None, digest: str) -> None:
    """Returns when the bytes of the pair, which `reader` may know of, are given to them. Raises Forbidden."""
    if not _is_given(session, reader, digest):
        raise Forbidden(
            f"Only gated adapters use the pair {digest}: ask for access to one, on its page or with `vera-hub access ask`. "
            "Who has the pair sends it (`vera-hub push` does).",
            code="ADAPTER_GATED",
        )


def piece_hashes(session: Session, digest: str) -> Sequence[str]:
    """The blobs that make up the pair, in order."""
    return projections.pieces_of(session, digest)


def require_projection(session: Session, principal: Principal, manifest: Manifest) -> str | None:
    """The digest of the stored pair that the adapter needs, None when a recipe gives it.

    Raises Invalid for a pair that `principal` is not given here, or of another size than the recipe says: who pushes a version
    of a pair is given it from then on, and to know its digest is not to have it.
    """
    if not manifest.recipe.is_stored:
        return None
    digest, size_bytes = manifest.projection_digest, manifest.recipe.size_bytes
    found = _find(session, principal, digest)
    if found is None or not _is_given(session, principal, digest):
        raise Invalid(
            f"The adapter needs the stored pair {digest} ({size_bytes:,} bytes), which is not here for you to use: send it first, "
            f"PUT /api/v1/projections/{digest}; `vera-hub push` does it.",
            code="PROJECTION_MISSING",
            digest=digest,
            size_bytes=size_bytes,
        )
    projection = found.projection
    if projection.size_bytes != size_bytes:
        raise Invalid(
            f"The pair {digest} has {projection.size_bytes:,} bytes and the recipe says {size_bytes:,}: "
            "the sizes in the manifest are not those of training.",
            code="PROJECTION_MISMATCH",
            expected=size_bytes,
            got=projection.size_bytes,
        )
    return digest


def hold_projection(session: Session, principal: Principal, manifest: Manifest) -> str | None:
    """`require_projection`, and the pair stays until the transaction ends."""
    if manifest.recipe.is_stored:
        projections.hold(session, manifest.projection_digest)
    return require_projection(session, principal, manifest)


def _is_given(session: Session, reader: Principal | None, digest: str) -> bool:
    account_id = reader.account_id if reader else None
    return projections.is_given(session, viewer_of(reader), digest, account_id=account_id)


def _find(session: Session, reader: Principal | None, digest: str) -> SharedProjection | None:
    account_id = reader.account_id if reader else None
    return projections.shared(session, viewer_of(reader), digest, account_id=account_id)
