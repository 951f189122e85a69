"""Adapters and their versions: what they are, what there is, and what they are called."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.orm import Session

from hub.access.services import HubParts, Reading, Services
from hub.api.responses import answer
from hub.auth.policy import Action, Principal
from hub.domain import accounts, catalog, histories, naming, openings
from hub.domain.snapshots import MAIN, Snapshot, find_snapshot
from hub.hf import describing, shapes
from hub.hf.addresses import whole
from hub.hf.advising import warning_of
from hub.hf.describing import Expanded, Properties
from hub.hf.permission import Reader, Wired

router = APIRouter(prefix="/api", include_in_schema=False)


@router.get("/whoami-v2")
def whoami(request: Request, principal: Annotated[Principal, Depends(Wired(Action.IDENTIFY))]) -> Response:
    """Who the token speaks for."""
    return answer(request, shapes.account(accounts.describe(principal), principal.token_id))


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
    expand: Expanded,
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
    expand: Expanded,
) -> Response:
    """An adapter at a revision."""
    found = find_snapshot(session, reader, namespace, name, whole(revision))
    return _model_at(request, session, parts, found, with_blobs=blobs, expand=expand)


@router.get("/models/{namespace}/{name}/refs")
def list_refs(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """The branches, and a tag for each version, each alias and what somebody has tagged."""
    head = find_snapshot(session, reader, namespace, name, MAIN)
    names = naming.list_names(session, reader, namespace, name)
    if head.version is None:
        return answer(request, shapes.refs(head, (), (), names))
    adapter = catalog.get_adapter(session, reader, namespace, name)
    there = [version for version in adapter.versions if version.deleted is None and version.quarantined is None]
    return answer(request, shapes.refs(head, there, adapter.aliases, names))


@router.get("/models/{namespace}/{name}/commits/{revision}")
def list_commits(
    request: Request, reader: Reader, *, namespace: str, name: str, revision: str, session: Reading
) -> Response:
    """The commit and all before it, newest first."""
    found = find_snapshot(session, reader, namespace, name, whole(revision))
    return answer(request, [shapes.commit(each) for each in histories.history(session, reader, found)])


@router.get("/models/{namespace}/{name}/auth-check")
def check_reading(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """Whether whoever asks gets the files of the adapter."""
    adapter = openings.find(session, reader, namespace, name)
    if adapter is None:
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
    request: Request, session: Session, parts: Services, found: Snapshot, *, with_blobs: bool, expand: Properties
) -> Response:
    shown = describing.whole(request, session, parts, found, with_git_names=with_blobs)
    answered = answer(request, describing.only(shown, expand))
    answered.headers.update(warning_of(found))
    return answered
