"""Stored projections: pairs of matrices that follow no recipe, by their digest."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import chain
from typing import Annotated, Any, BinaryIO

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from hub.access.permission import Allowed, Reader
from hub.access.publishing import quota_of
from hub.access.receiving import chunks
from hub.access.services import HubParts, Reading, Services
from hub.api.responses import FOR_EVER, TO_NOBODY_ELSE, answer, is_known
from hub.auth.policy import Action, Principal
from hub.domain import accounts, blobs, projections
from hub.domain.views.versions import StoredProjectionView
from hub.errors import Invalid, StorageFull

router = APIRouter(prefix="/api/v1/projections", tags=["Projections"])

Digest = Annotated[str, Path(pattern=r"^sha256:[0-9a-f]{64}$")]
_BYTES = "application/octet-stream"
BODY: dict[str, Any] = {
    "requestBody": {"required": True, "content": {_BYTES: {"schema": {"type": "string", "format": "binary"}}}}
}


@router.put(
    "/{digest}",
    status_code=201,
    response_model=StoredProjectionView,
    responses={200: {"model": StoredProjectionView}},
    openapi_extra=BODY,
)
async def store_projection(
    request: Request,
    digest: Digest,
    principal: Annotated[Principal, Depends(Allowed(Action.STORE_PROJECTION))],
    parts: HubParts,
) -> Response:
    """Keep a pair of matrices: the body is A, then B, in float32. 200 when it is here already."""
    async with parts.intake.place(principal.account_id):
        with tempfile.TemporaryFile(prefix="vera-hub-") as file:
            got = await _receive(chunks(request, parts.settings.max_projection_bytes, parts.intake), file)
            if got != digest:
                raise Invalid(
                    f"The body is {got} and its address says {digest}: it was damaged on the way, or is another pair. "
                    "Send it again.",
                    code="DIGEST_INVALID",
                    expected=digest,
                    got=got,
                )
            view, is_new = await run_in_threadpool(_keep, parts, principal, digest, file)
    return answer(request, view, status=201 if is_new else 200)


@router.get(
    "/{digest}",
    response_class=StreamingResponse,
    responses={200: {"content": {_BYTES: {}}}},
)
def download_projection(request: Request, reader: Reader, digest: Digest, parts: HubParts) -> Response:
    """The bytes of a pair: A, then B, in float32."""
    with parts.database.reading() as session:
        headers = _headers(request, projections.get_projection(session, reader, digest))
        projections.require_given(session, reader, digest)
        hashes = projections.piece_hashes(session, digest)
    if is_known(request, headers["ETag"]):
        del headers["Content-Length"]
        return Response(status_code=304, headers=headers)
    found = _pieces(parts, hashes)
    first = next(found)  # what is wrong with it is still an answer; later, only breaking off can tell the client
    return StreamingResponse(chain([first], found), headers=headers, media_type=_BYTES)


@router.head("/{digest}", response_class=Response)
def has_projection(request: Request, reader: Reader, digest: Digest, session: Reading) -> Response:
    """Whether a pair is here to be given, and its size."""
    view = projections.get_projection(session, reader, digest)
    projections.require_given(session, reader, digest)
    return Response(headers=_headers(request, view), media_type=_BYTES)


async def _receive(stream: AsyncIterator[bytes], file: BinaryIO) -> str:
    """Writes the body to `file` as it comes, and gives its digest."""
    hasher = hashlib.sha256()
    async for chunk in stream:
        hasher.update(chunk)
        try:
            await run_in_threadpool(file.write, chunk)
        except OSError as error:
            raise StorageFull("The hub has no room to take the pair in: nothing was kept.") from error
    return f"sha256:{hasher.hexdigest()}"


def _keep(parts: Services, principal: Principal, digest: str, file: BinaryIO) -> tuple[StoredProjectionView, bool]:
    """Checks the pair, keeps what is large, and then records it in one transaction."""
    size_bytes = projections.check_pieces(projections.pieces(file))
    outside = blobs.put_large(parts.objects, projections.pieces(file))
    with parts.database.writing() as session:
        accounts.require_still(session, principal)
        found = projections.pieces(file)
        is_new = projections.keep(
            session, principal, digest, found, size_bytes=size_bytes, outside=outside, quota=quota_of(parts)
        )
        return projections.get_projection(session, principal, digest), is_new


def _pieces(parts: Services, hashes: Sequence[str]) -> Iterator[bytes]:
    for sha256 in hashes:
        with parts.database.reading() as session:
            stored = blobs.locate(session, sha256)
        yield blobs.bytes_of(stored, parts.objects)


def _headers(request: Request, view: StoredProjectionView) -> dict[str, str]:
    return {
        "ETag": f'"{view.digest}"',
        "Cache-Control": FOR_EVER if request.state.principal is None else TO_NOBODY_ELSE,
        "Vary": "Authorization",
        "Content-Length": str(view.size_bytes),
        "Content-Disposition": "attachment",
    }
