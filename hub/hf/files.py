"""The files of a revision: as a tree, and their bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.orm import Session

from hub.access.fetching import note_fetch
from hub.access.receiving import chunks
from hub.access.services import HubParts, Reading, Services
from hub.api.responses import ALWAYS_ASK, FOR_EVER, TO_NOBODY_ELSE, answer, is_known
from hub.auth.policy import Principal
from hub.domain import blobs, catalog, histories, snapshots
from hub.domain.snapshots import Snapshot, find_snapshot
from hub.domain.views.versions import CommitView, FileView
from hub.errors import Malformed, NotFound
from hub.hf import shapes
from hub.hf.addresses import whole
from hub.hf.advising import warning_of
from hub.hf.permission import Reader
from hub.hf.trees import lying_below, name_of, part_of
from vera.ref import AdapterRef

router = APIRouter(include_in_schema=False)

_MAX_PATHS = 1000


@router.get("/api/models/{namespace}/{name}/tree/{revision}")
def list_tree(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    revision: str,
    session: Reading,
    parts: HubParts,
    expand: bool = False,
    recursive: bool = False,
) -> Response:
    """The files and folders of a revision."""
    found = find_snapshot(session, reader, namespace, name, whole(revision))
    return answer(request, _tree(session, parts, reader, found, "", expand=expand, recursive=recursive))


@router.get("/api/models/{namespace}/{name}/tree/{revision}/{path:path}")
def list_folder(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    revision: str,
    path: str,
    session: Reading,
    parts: HubParts,
    expand: bool = False,
    recursive: bool = False,
) -> Response:
    """The files and folders of a folder."""
    found, folder = find_snapshot(session, reader, namespace, name, whole(revision)), whole(path).strip("/")
    shown = _tree(session, parts, reader, found, f"{folder}/", expand=expand, recursive=recursive)
    if not shown:
        raise NotFound(f"{found.ref} has no folder {folder[:200]}.", code="FILE_UNKNOWN", commit=found.commit)
    return answer(request, shown)


async def paths_of(request: Request, _: Reader, parts: HubParts) -> Mapping[str, list[str]]:
    """The form that asks for paths. Raises Malformed."""
    body = bytearray()
    async for chunk in chunks(request, parts.settings.max_json_bytes, parts.intake):
        body += chunk
    try:
        return parse_qs(body.decode(), max_num_fields=_MAX_PATHS)
    except ValueError as error:
        raise Malformed(f"The form cannot be read: send at most {_MAX_PATHS} paths, in UTF-8.") from error


@router.post("/api/models/{namespace}/{name}/paths-info/{revision}")
def describe_paths(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    revision: str,
    form: Annotated[Mapping[str, list[str]], Depends(paths_of)],
    session: Reading,
    parts: HubParts,
) -> Response:
    """Those of the paths that are files of the revision."""
    found = find_snapshot(session, reader, namespace, name, whole(revision))
    files = [found.files[path] for path in form.get("paths", []) if path in found.files]
    expand = form.get("expand", [""])[-1].lower() == "true"
    return answer(request, _entries(session, parts, reader, found, files, expand=expand))


@router.api_route("/{namespace}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
def resolve(
    request: Request, reader: Reader, *, namespace: str, name: str, revision: str, path: str, parts: HubParts
) -> Response:
    """The bytes of a file at a revision, or a part of them."""
    with parts.database.reading() as session:
        found = find_snapshot(session, reader, namespace, name, whole(revision))
        file = found.file(whole(path))
        is_loose = found.is_loose(file)
        if is_loose:
            snapshots.require_loose_given(session, reader, namespace, name, file.path)
        else:
            adapter, first_fetched = catalog.require_file(session, reader, AdapterRef(namespace, name), file.sha256)
        headers = _headers(found, file, whole(revision))
        if is_known(request, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        if request.method == "HEAD":
            headers["Content-Length"] = str(file.size_bytes)
            return Response(b"", 200, headers, "application/octet-stream")
        stored = blobs.locate(session, file.sha256)
    if not is_loose:
        note_fetch(request, parts, reader, adapter_id=adapter.id, sha256=file.sha256, first_fetched=first_fetched)
    return _part_of(blobs.bytes_of(stored, parts.objects), request.headers.get("range"), headers)


def _headers(found: Snapshot, file: FileView, revision: str) -> dict[str, str]:
    """Clients take a file only with the commit it belongs to and a name of its content."""
    for_anybody = FOR_EVER if revision == found.commit else ALWAYS_ASK
    return {
        **warning_of(found),
        "X-Repo-Commit": found.commit,
        "ETag": f'"{file.sha256}"',
        "Cache-Control": TO_NOBODY_ELSE if found.is_private or found.gate else for_anybody,
        "Vary": "Authorization",
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.rpartition('/')[2])}",
    }


def _part_of(data: bytes, wanted: str | None, headers: dict[str, str]) -> Response:
    """All of `data`, or the one range of it that was asked for."""
    status, first, last = part_of(wanted, len(data), headers)
    return Response(data[first : last + 1], status, headers, "application/octet-stream")


def _entries(
    session: Session,
    parts: Services,
    reader: Principal | None,
    found: Snapshot,
    files: Sequence[FileView],
    *,
    expand: bool,
) -> list[shapes.Json]:
    names = snapshots.git_names(session, parts.git_names, parts.objects, files)
    changed: Mapping[str, CommitView] = histories.last_changes(session, reader, found) if expand else {}
    return [shapes.entry(file, names[file.path], changed.get(file.path)) for file in files]


def _tree(
    session: Session,
    parts: Services,
    reader: Principal | None,
    found: Snapshot,
    prefix: str,
    *,
    expand: bool,
    recursive: bool,
) -> list[shapes.Json]:
    """What lies below `prefix`, folders first; all of it, or what lies there directly."""
    folders, below = lying_below(found.files, prefix, recursive=recursive)
    digests = {path: file.sha256 for path, file in found.files.items()}
    shown = [shapes.folder(folder, name_of(digests, folder)) for folder in folders]
    files = [found.files[path] for path in below]
    return shown + _entries(session, parts, reader, found, files, expand=expand)
