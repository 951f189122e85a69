"""Base models that are passed on from another hub, to clients that ask this one for all they need.

These routes are there for the names that the operator has given, whatever else has such a name here, so that nobody
who makes an account of that name gives out a base of his own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.routing import Match
from starlette.types import Scope

from hub.access.relay import Relay
from hub.api.responses import ALWAYS_ASK, FOR_EVER, answer, is_known
from hub.domain.relayed import RelayedFile, RelayedModel
from hub.domain.snapshots import MAIN
from hub.errors import NotFound
from hub.hf import describing, shapes
from hub.hf.addresses import whole
from hub.hf.describing import Expanded
from hub.hf.files import paths_of
from hub.hf.permission import ReadOnly
from hub.hf.shapes import Json
from hub.hf.trees import lying_below, name_of, part_of


class _RelayedRoute(APIRoute):
    """Matches where the address names a model that is passed on."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE or relay_of(scope).passes_on(child["path_params"]["model"]):
            return match, child
        return Match.NONE, {}


router = APIRouter(include_in_schema=False, route_class=_RelayedRoute, dependencies=[ReadOnly])


def relay_of(scope: Scope) -> Relay:
    found = scope["app"].state.services.relay
    assert isinstance(found, Relay), "these routes are there when it is"
    return found


async def _relay(request: Request) -> Relay:
    return relay_of(request.scope)


Relaying = Annotated[Relay, Depends(_relay)]


@router.get("/api/models/{model:path}/revision/{revision}")
def get_model_at(
    request: Request,
    relay: Relaying,
    *,
    model: str,
    revision: str,
    blobs: bool = False,
    expand: Expanded,
) -> Response:
    """A model at a revision."""
    found = relay.find(model, whole(revision))
    files = [_sibling(file, with_blob=blobs) for file in found.files.values()]
    return _noted(answer(request, describing.only({**found.told, "siblings": files}, expand)), relay)


@router.get("/api/models/{model:path}/tree/{revision}")
def list_tree(request: Request, relay: Relaying, *, model: str, revision: str, recursive: bool = False) -> Response:
    """The files and folders of a revision."""
    found = relay.find(model, whole(revision))
    return _noted(answer(request, _tree(found, "", recursive=recursive)), relay)


@router.get("/api/models/{model:path}/tree/{revision}/{path:path}")
def list_folder(
    request: Request, relay: Relaying, *, model: str, revision: str, path: str, recursive: bool = False
) -> Response:
    """The files and folders of a folder."""
    found, folder = relay.find(model, whole(revision)), whole(path).strip("/")
    shown = _tree(found, f"{folder}/", recursive=recursive)
    if not shown:
        raise NotFound(f"{found.id} has no folder {folder[:200]}.", code="FILE_UNKNOWN", commit=found.commit)
    return _noted(answer(request, shown), relay)


@router.post("/api/models/{model:path}/paths-info/{revision}")
def describe_paths(
    request: Request,
    relay: Relaying,
    *,
    model: str,
    revision: str,
    form: Annotated[Mapping[str, list[str]], Depends(paths_of)],
) -> Response:
    """Those of the paths that are files of the revision."""
    found = relay.find(model, whole(revision))
    files = [found.files[path] for path in form.get("paths", []) if path in found.files]
    return _noted(answer(request, [_entry(file) for file in files]), relay)


@router.get("/api/models/{model:path}")
def get_model(request: Request, relay: Relaying, *, model: str, blobs: bool = False, expand: Expanded) -> Response:
    """A model at its newest commit."""
    return get_model_at(request, relay, model=model, revision=MAIN, blobs=blobs, expand=expand)


@router.api_route("/{model:path}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
async def resolve(request: Request, relay: Relaying, *, model: str, revision: str, path: str) -> Response:
    """The bytes of a file at a revision, or a part of them."""
    found = await run_in_threadpool(relay.find, model, whole(revision))
    file = found.file(whole(path))
    headers = _headers(found, file, whole(revision))
    if is_known(request, headers["ETag"]):
        return _noted(Response(status_code=304, headers=headers), relay)
    if request.method == "HEAD":
        headers["Content-Length"] = str(file.size_bytes)
        return _noted(Response(b"", 200, headers, "application/octet-stream"), relay)
    status, first, last = part_of(request.headers.get("range"), file.size_bytes, headers)
    headers["Content-Length"] = str(last + 1 - first)
    pieces = await relay.open(found, file, first, last)
    return _noted(StreamingResponse(pieces, status, headers, "application/octet-stream"), relay)


def _headers(found: RelayedModel, file: RelayedFile, revision: str) -> dict[str, str]:
    """The name of the content is the one it has at the other hub, so that caches of clients stay good."""
    return {
        "X-Repo-Commit": found.commit,
        "ETag": f'"{file.digest}"',
        "Cache-Control": FOR_EVER if revision == found.commit else ALWAYS_ASK,
        "Accept-Ranges": "bytes",
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.path.rpartition('/')[2])}",
    }


def _noted(response: Response, relay: Relay) -> Response:
    response.headers["Vera-Relayed-From"] = relay.origin
    return response


def _tree(found: RelayedModel, prefix: str, *, recursive: bool) -> list[Json]:
    folders, files = lying_below(found.files, prefix, recursive=recursive)
    digests = {path: file.digest for path, file in found.files.items()}
    shown = [shapes.folder(folder, name_of(digests, folder)) for folder in folders]
    return shown + [_entry(found.files[path]) for path in files]


def _entry(file: RelayedFile) -> Json:
    shown: Json = {"type": "file", "path": file.path, "oid": file.git_name, "size": file.size_bytes}
    if file.pointer is not None:
        shown["lfs"] = {"oid": file.digest, "size": file.size_bytes, "pointerSize": file.pointer[1]}
    return shown


def _sibling(file: RelayedFile, *, with_blob: bool) -> Json:
    if not with_blob:
        return {"rfilename": file.path}
    shown: Json = {"rfilename": file.path, "size": file.size_bytes, "blobId": file.git_name}
    if file.pointer is not None:
        shown["lfs"] = {"sha256": file.digest, "size": file.size_bytes, "pointerSize": file.pointer[1]}
    return shown
