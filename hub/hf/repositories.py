"""Adapters and their versions: what they are, what there is, and what they are called."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.orm import Session

from hub.access.services import HubParts, Reading, Services
from hub.api.responses import answer
from hub.auth.policy import Action, Principal
from hub.domain import accounts, blobs, catalog, downloads, finding, snapshots
from hub.domain.finding import Wanted
from hub.domain.front_matter import front_matter_or_nothing
from hub.domain.paging import MAX_LIMIT
from hub.domain.snapshots import MAIN, Snapshot, find_snapshot
from hub.hf import shapes
from hub.hf.addresses import page_after, whole
from hub.hf.advising import warning_of
from hub.hf.permission import Reader, Wired
from vera.manifest import CARD_FILE
from vera.ref import AdapterRef

router = APIRouter(prefix="/api", include_in_schema=False)

Texts = Annotated[list[str], Query(max_length=40)]
Words = Annotated[str | None, Query(max_length=200)]
# `filter` of everything that is kept here.
_ALWAYS = frozenset({"vera", "peft", "safetensors", "library:peft"})
# What `downloads` counts there.
_RECENT_DAYS = 30
_BASE_PREFIXES = ("base_model:adapter:", "base_model:")


@router.get("/whoami-v2")
def whoami(request: Request, principal: Annotated[Principal, Depends(Wired(Action.IDENTIFY))]) -> Response:
    """Who the token speaks for."""
    return answer(request, shapes.account(accounts.describe(principal), principal.token_id))


@router.get("/models")
def list_models(
    request: Request,
    reader: Reader,
    *,
    session: Reading,
    search: Words = None,
    author: Words = None,
    pipeline_tag: Words = None,
    filter: Texts = [],  # noqa: B006  # their name for it; FastAPI copies it
    expand: Texts = [],  # noqa: B006  # FastAPI copies it
    gated: Words = None,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1)] = MAX_LIMIT,
) -> Response:
    """Adapters, the last updated first, whatever `sort` says: there are no likes and no trends here."""
    wanted = _read_filters(filter, pipeline_tag)
    if wanted is None or (gated or "").lower() == "true":
        return answer(request, [])
    base, task = wanted
    looked_for = Wanted(search=search, owner=author, base=base, task=task)
    page = finding.search(session, reader, looked_for, cursor=cursor, limit=min(limit, MAX_LIMIT))
    latest = catalog.latest_versions(session, page.items)
    found = [shapes.model(each, latest[each.id]) for each in page.items if each.id in latest]
    shown = answer(request, [_only(each, expand) for each in found])
    if page.next is not None:
        shown.headers["Link"] = page_after(request, page.next)
    return shown


@router.get("/models/{namespace}/{name}")
def get_model(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    session: Reading,
    parts: HubParts,
    blobs: bool = False,
    expand: Texts = [],  # noqa: B006  # FastAPI copies it
) -> Response:
    """An adapter at its latest version."""
    found = find_snapshot(session, reader, namespace, name, MAIN)
    return _model_at(request, session, parts, found, with_blobs=blobs, expand=expand)


@router.get("/models/{namespace}/{name}/revision/{revision}")
def get_model_at(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    revision: str,
    session: Reading,
    parts: HubParts,
    blobs: bool = False,
    expand: Texts = [],  # noqa: B006  # FastAPI copies it
) -> Response:
    """An adapter at a revision."""
    found = find_snapshot(session, reader, namespace, name, whole(revision))
    return _model_at(request, session, parts, found, with_blobs=blobs, expand=expand)


@router.get("/models/{namespace}/{name}/refs")
def list_refs(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """The one branch there is, and a tag for each version and each alias."""
    head = find_snapshot(session, reader, namespace, name, MAIN)
    if head.version is None:
        return answer(request, shapes.refs(head, (), ()))
    adapter = catalog.get_adapter(session, reader, namespace, name)
    there = [version for version in adapter.versions if version.deleted is None and version.quarantined is None]
    return answer(request, shapes.refs(head, there, adapter.aliases))


@router.get("/models/{namespace}/{name}/commits/{revision}")
def list_commits(
    request: Request, reader: Reader, *, namespace: str, name: str, revision: str, session: Reading
) -> Response:
    """The version and all before it, newest first."""
    found = find_snapshot(session, reader, namespace, name, whole(revision))
    return answer(request, [shapes.commit(each) for each in snapshots.history(session, reader, found)])


@router.get("/models/{namespace}/{name}/auth-check")
def check_reading(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """Whether whoever asks gets the files of the adapter."""
    found = find_snapshot(session, reader, namespace, name, MAIN)
    if found.adapter is not None:
        adapter = catalog.find_adapter(session, reader, namespace, name)
        catalog.require_given(session, reader, adapter)
    return answer(request, {})


@router.get("/models/{namespace}/{name}/auth-check/write")
def check_writing(
    request: Request,
    *,
    principal: Annotated[Principal, Depends(Wired(Action.PUSH))],
    namespace: str,
    name: str,
    session: Reading,
) -> Response:
    """Whether whoever asks may push to the adapter."""
    find_snapshot(session, principal, namespace, name, MAIN)  # the address alone has told who may push there
    return answer(request, {})


def _model_at(
    request: Request, session: Session, parts: Services, found: Snapshot, *, with_blobs: bool, expand: list[str]
) -> Response:
    reader: Principal | None = request.state.principal
    if found.version is None:
        return answer(request, _only(shapes.opening(found), expand))
    namespace, _, name = found.id.partition("/")
    ref = AdapterRef(namespace, name, found.commit)
    detail = catalog.resolve_version(session, reader, ref)
    names = None
    if with_blobs:
        names = snapshots.git_names(session, parts.git_names, parts.objects, list(found.files.values()))
    card = blobs.bytes_of(blobs.locate(session, found.file(CARD_FILE).sha256), parts.objects).decode()
    fetched = downloads.of_adapter(session, reader, ref.namespace, ref.name, days=_RECENT_DAYS)
    shown = shapes.model_at(found, detail, front_matter_or_nothing(card), fetched, names)
    answered = answer(request, _only(shown, expand))
    answered.headers.update(warning_of(found))
    return answered


def _only(shown: shapes.Json, expand: list[str]) -> shapes.Json:
    """The properties that the client asked for, or all of them."""
    if not expand:
        return shown
    return {name: value for name, value in shown.items() if name in ("_id", "id", *expand)}


def _read_filters(filters: list[str], pipeline_tag: str | None) -> tuple[str | None, str | None] | None:
    """The base and the task that the filters ask for; None when nothing here can meet them all."""
    found: dict[str, set[Any]] = {"base": set(), "task": {pipeline_tag} if pipeline_tag else set()}
    for each in (part for text in filters for part in text.split(",")):
        prefix = next((prefix for prefix in _BASE_PREFIXES if each.startswith(prefix)), None)
        if each in _ALWAYS:
            continue
        if prefix is not None:
            found["base"].add(each.removeprefix(prefix))
        else:
            found["task"].add(each)
    if max(len(values) for values in found.values()) > 1:
        return None
    return next(iter(found["base"]), None), next(iter(found["task"]), None)
