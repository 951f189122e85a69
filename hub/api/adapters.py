"""Adapters and their versions: push, list, resolve, download."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool

from hub.access.fetching import note_fetch
from hub.access.permission import Allowed, Reader
from hub.access.publishing import publish, quota_of
from hub.access.receiving import chunks
from hub.access.services import HubParts, Reading, Services
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.conditions import IfMatch, require_unchanged
from hub.api.multipart import boundary_of, read_parts
from hub.api.parameters import Cursor, Limit, Looking
from hub.api.push_parts import PART_LIMITS, PUSH_BODY, said_in
from hub.api.responses import FOR_EVER, TO_NOBODY_ELSE, answer, caching, etag_of, is_known, linked
from hub.api.schemas import AdapterChange, Move
from hub.auth.policy import Action, Principal
from hub.db.queries.versions import Given
from hub.domain import access, blobs, catalog, downloads, finding, moving, uploads
from hub.domain.finding import Sort
from hub.domain.publishing import Published
from hub.domain.shaping import adapter_view
from hub.domain.views.adapters import AdapterDetail, AdapterView, FacetsView, FoundView
from hub.domain.views.page import Page
from hub.domain.views.record import DownloadsView
from hub.domain.views.versions import VersionDetail
from vera.archive import MAX_BYTES
from vera.bundle import MEDIA_TYPE, bundle
from vera.manifest import MANIFEST_FILE
from vera.ref import AdapterRef

Days = Annotated[int, Query(ge=1, le=366, description="How many days, today the last.")]

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/adapters", tags=["Adapters"])


@router.post(
    "/{namespace}/{name}/versions",
    status_code=201,
    response_model=VersionDetail,
    responses={200: {"model": VersionDetail}},
    openapi_extra=PUSH_BODY,
)
async def push(
    request: Request,
    namespace: str,
    name: str,
    principal: Annotated[Principal, Depends(Allowed(Action.PUSH, is_asked_anew=True))],
    parts: HubParts,
) -> Response:
    """Push a version: one part per file, in one request. 200 when the same was pushed before."""
    boundary = boundary_of(request.headers.get("content-type", ""))
    async with parts.intake.place(principal.account_id):
        body = chunks(request, parts.settings.max_push_bytes, parts.intake)
        received = await read_parts(body, boundary, PART_LIMITS)
        published = await run_in_threadpool(
            _publish, request, parts, principal, received, namespace=namespace, name=name
        )
    return answer(request, published.version, status=201 if published.is_new else 200)


@router.get("", response_model=Page[FoundView])
def search(
    request: Request,
    reader: Reader,
    *,
    session: Reading,
    wanted: Looking,
    sort: Sort = "updated",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Adapters, the last updated first or in another order. `search` is the beginnings of words of names, bases,
    tasks, licenses, labels, tags, data sets and cards: all of them must be there."""
    page = finding.search(session, reader, wanted, sort=sort, cursor=cursor, limit=limit)
    return linked(answer(request, page), request, page.next)


@router.get("/facets", response_model=FacetsView)
def facets(request: Request, reader: Reader, *, session: Reading, wanted: Looking) -> Response:
    """What the adapters that a search finds can be narrowed down to, with how many there are of each."""
    return answer(request, finding.facets(session, reader, wanted))


@router.get("/{namespace}/{name}", response_model=AdapterDetail)
def get_adapter(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """An adapter and all of its versions, newest first."""
    return answer(request, catalog.get_adapter(session, reader, namespace, name))


@router.patch("/{namespace}/{name}", response_model=AdapterView)
def change_adapter(
    request: Request,
    *,
    principal: Annotated[Principal, Depends(Allowed(Action.MANAGE_ADAPTER))],
    namespace: str,
    name: str,
    body: Annotated[AdapterChange, Depends(JsonBody(AdapterChange))],
    session: Writing,
    if_match: IfMatch = None,
) -> Response:
    """Make an adapter private, or public; gate its files, or give them to everybody."""
    require_unchanged(session, principal, AdapterRef(namespace, name), if_match, to=Action.MANAGE_ADAPTER)
    changed = catalog.find_adapter(session, principal, namespace, name, to=Action.MANAGE_ADAPTER)
    view = adapter_view(changed)
    if body.visibility is not None:
        is_private = body.visibility == "private"
        view = catalog.set_visibility(session, principal, namespace, name, is_private=is_private)
    if "gated" in body.model_fields_set:
        view = access.set_gate(session, principal, namespace, name, body.gated)
    return answer(request, view)


@router.post("/{namespace}/{name}/move", response_model=AdapterView)
def move_adapter(
    request: Request,
    *,
    principal: Annotated[Principal, Depends(Allowed(Action.MANAGE_ADAPTER))],
    namespace: str,
    name: str,
    body: Annotated[Move, Depends(JsonBody(Move))],
    session: Writing,
    parts: HubParts,
) -> Response:
    """Give an adapter another name, or another owner. The old name leads to it."""
    to_namespace, _, to_name = body.to.partition("/")
    moving.move(session, principal, namespace, name, to_namespace=to_namespace, to_name=to_name, quota=quota_of(parts))
    return answer(request, adapter_view(catalog.find_adapter(session, principal, to_namespace, to_name)))


@router.get(
    "/{namespace}/{name}/versions/{selector}",
    response_model=VersionDetail,
    responses={200: {"content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
)
def resolve_version(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    selector: str,
    parts: HubParts,
    digest: Annotated[str | None, Query(pattern=r"^sha256:[0-9a-f]{64}$", description="What it must be.")] = None,
    with_files: Annotated[bool, Query(description="Its files too, while they are small.")] = False,
) -> Response:
    """The version that `v3`, an alias, `latest`, a commit or `sha256:…` means. With its files it comes as one body of
    bytes to who accepts that, and else with them in base64."""
    ref = AdapterRef(namespace, name, selector, digest)
    given = None
    if with_files and MEDIA_TYPE in request.headers.get("accept", ""):
        given = _bundled(request, parts, reader, ref)
    given = given or _spelled(request, parts, reader, ref, with_files=with_files)
    given.headers["Vary"] = "Accept, Authorization"
    return given


@router.get(
    "/{namespace}/{name}/blobs/{sha256}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def download(request: Request, reader: Reader, *, namespace: str, name: str, sha256: str, parts: HubParts) -> Response:
    """The bytes of a file of a version of this adapter."""
    with parts.database.reading() as session:
        adapter, first_fetched = catalog.require_file(session, reader, AdapterRef(namespace, name), sha256)
        policy = TO_NOBODY_ELSE if adapter.is_private or adapter.gate else FOR_EVER
        headers = {"ETag": f'"{sha256}"', "Cache-Control": policy, "Vary": "Authorization"}
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        stored = blobs.locate(session, sha256)
    note_fetch(request, parts, reader, adapter_id=adapter.id, sha256=sha256, first_fetched=first_fetched)
    headers["Content-Disposition"] = "attachment"  # a browser is not to show a card as a page of ours
    return Response(blobs.bytes_of(stored, parts.objects), 200, headers, "application/octet-stream")


@router.get("/{namespace}/{name}/downloads", response_model=DownloadsView)
def count_downloads(
    request: Request, reader: Reader, *, namespace: str, name: str, session: Reading, days: Days = 30
) -> Response:
    """How often an adapter was downloaded: ever, and by version and day."""
    return answer(request, downloads.of_adapter(session, reader, namespace, name, days=days))


def _bundled(request: Request, parts: Services, reader: Principal | None, ref: AdapterRef) -> Response | None:
    """The version and its files as one body; None where they do not come with it."""
    with parts.database.reading() as session:
        version = catalog.find_given(session, reader, ref)
        files = catalog.carried_files(session, reader, version)
    if files is None:
        return None
    said = catalog.bundled_view(version)  # it names the version, and so every byte that follows
    headers = {"ETag": etag_of(said), **caching(request)}
    if is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    _note_fetch(request, parts, reader, version)
    return Response(bundle(to_json(said), files), 200, headers, MEDIA_TYPE)


def _spelled(
    request: Request, parts: Services, reader: Principal | None, ref: AdapterRef, *, with_files: bool
) -> Response:
    """All that is said of the version, as JSON."""
    with parts.database.reading() as session:
        version = catalog.find_version(session, reader, ref)
        detail, given = catalog.version_detail(session, reader, version), catalog.given_of(version)
        files = catalog.carried_files(session, reader, given) if with_files else None
    if files is None:
        return answer(request, detail)
    content = {path: b64encode(data).decode() for path, data in files.items() if path != MANIFEST_FILE}
    answered = answer(request, replace(detail, content=content))
    if answered.status_code == HTTPStatus.OK:
        _note_fetch(request, parts, reader, given)
    return answered


def _note_fetch(request: Request, parts: Services, reader: Principal | None, version: Given) -> None:
    first, weights = catalog.first_fetch(reader, version), version.weights_digest.removeprefix("sha256:")
    note_fetch(request, parts, reader, adapter_id=version.adapter_id, sha256=weights, first_fetched=first)


def _publish(
    request: Request, parts: Services, principal: Principal, received: Mapping[str, bytes], *, namespace: str, name: str
) -> Published:
    files = {path: data for path, data in received.items() if path in MAX_BYTES}
    upload = uploads.check_upload(files, said_in(received))
    return publish(request, parts, principal, upload, namespace=namespace, name=name)
