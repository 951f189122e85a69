"""Repositories and tags over this wire: made, changed and taken back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.publishing import count_new_adapter, quota_of
from hub.access.services import HubParts, Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.errors import problem_of
from hub.api.responses import answer, hub_url
from hub.auth.policy import Action, Principal
from hub.domain import access, aliases, catalog, drafting, moving, naming, openings
from hub.domain.aliases import Expected
from hub.domain.snapshots import MAIN, find_snapshot
from hub.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed
from hub.hf import shapes
from hub.hf.addresses import whole
from hub.hf.errors import refuse
from hub.hf.permission import Reader, Wired
from hub.hf.schemas import (
    NewBranch,
    NewRepository,
    NewTag,
    OldRepository,
    Renaming,
    RepositorySettings,
    Squashing,
)
from vera.ref import AdapterRef

router = APIRouter(route_class=WritingRoute, prefix="/api", include_in_schema=False)

# The address does not say in which namespace: the domain asks for the role there.
Maker = Annotated[Principal, Depends(Wired(Action.PUSH))]
Manager = Annotated[Principal, Depends(Wired(Action.MANAGE_ADAPTER))]
Pusher = Annotated[Principal, Depends(Wired(Action.PUSH))]
Tagger = Annotated[Principal, Depends(Wired(Action.SET_ALIAS))]


@router.post("/repos/create")
def create(
    request: Request,
    *,
    principal: Maker,
    body: Annotated[NewRepository, Depends(JsonBody(NewRepository))],
    session: Writing,
    parts: HubParts,
) -> Response:
    """Make an adapter that waits for its first version. 409 with its address when it is there."""
    _require_model(body.type)
    namespace, name = _named(principal, body)
    shown = {
        "url": f"{hub_url(request)}/{namespace}/{name}",
        "name": f"{namespace}/{name}",
        "id": f"{namespace}/{name}",
    }
    try:
        made = openings.open_adapter(
            session, principal, namespace, name, is_private=body.is_private, quota=quota_of(parts)
        )
        drafting.begin(session, principal, made)
    except Conflict as error:
        if error.code != "ADAPTER_EXISTS":  # 409 would mean that it is there, and clients would go on
            raise Invalid(str(error), code=error.code, **error.facts) from error
        return refuse(problem_of(error), shown)
    count_new_adapter(request, parts, principal)
    return answer(request, shown)


@router.delete("/repos/delete")
def delete(
    request: Request,
    *,
    principal: Manager,
    body: Annotated[OldRepository, Depends(JsonBody(OldRepository))],
    session: Writing,
) -> Response:
    """Take back an adapter that has no version yet. Versions stay: others may rely on them."""
    _require_model(body.type)
    openings.take_back(session, principal, *_named(principal, body))
    return answer(request, {})


@router.post("/repos/move")
def move(
    request: Request,
    *,
    principal: Manager,
    body: Annotated[Renaming, Depends(JsonBody(Renaming))],
    session: Writing,
    parts: HubParts,
) -> Response:
    """Give an adapter another name, or another owner. The old name leads to it."""
    _require_model(body.type)
    (namespace, _, name), (to_namespace, _, to_name) = body.fromRepo.partition("/"), body.toRepo.partition("/")
    quota = quota_of(parts)
    try:
        moving.move(session, principal, namespace, name, to_namespace=to_namespace, to_name=to_name, quota=quota)
    except Conflict as error:
        if error.code != "ADAPTER_EXISTS":
            raise
        said = f"A model repository called {body.toRepo} already exists: choose another name."  # as clients know it
        raise Conflict(said, code=error.code) from error
    return answer(request, {"url": f"{hub_url(request)}/{to_namespace}/{to_name}"})


@router.put("/models/{namespace}/{name}/settings")
def change_settings(
    request: Request,
    *,
    principal: Manager,
    namespace: str,
    name: str,
    body: Annotated[RepositorySettings, Depends(JsonBody(RepositorySettings))],
    session: Writing,
) -> Response:
    """Make an adapter private, or public; gate its files, or give them to everybody."""
    wanted = body.is_private
    if wanted is None and body.gated is None:
        catalog.find_adapter(session, principal, namespace, name, to=Action.MANAGE_ADAPTER)
    elif wanted is not None and not openings.set_visibility(session, principal, namespace, name, is_private=wanted):
        catalog.set_visibility(session, principal, namespace, name, is_private=wanted)
    if body.gated is not None:
        gate = body.gated or None
        if not access.set_gate_of_opening(session, principal, namespace, name, gate):
            access.set_gate(session, principal, namespace, name, gate)
    now = find_snapshot(session, principal, namespace, name, MAIN)
    return answer(request, {"private": now.is_private, "gated": now.gate or False})


@router.post("/models/{namespace}/{name}/tag/{revision}")
def create_tag(
    request: Request,
    *,
    principal: Tagger,
    namespace: str,
    name: str,
    revision: str,
    body: Annotated[NewTag, Depends(JsonBody(NewTag))],
    session: Writing,
) -> Response:
    """Let a new alias mean a version, or name a draft. An alias that is there is moved with `vera-hub alias set`, on
    purpose."""
    found = find_snapshot(session, principal, namespace, name, whole(revision))
    if found.version is None or found.draft is not None:
        naming.create_tag(session, principal, found, body.tag)
        return answer(request, shapes.tag(body.tag, found.commit))
    ref = AdapterRef(namespace, name, f"v{found.version.version}")
    try:
        view, _ = aliases.set_alias(session, principal, ref, body.tag, expected=Expected(is_set=False))
    except PreconditionFailed as error:
        raise Conflict(
            f"{found.id} has the tag {body.tag[:64]} already: move it with `vera-hub alias set`, or delete it first.",
            code="ALIAS_EXISTS",
        ) from error
    return answer(request, shapes.tag(view.name, found.version.commit))


@router.delete("/models/{namespace}/{name}/tag/{tag}")
def delete_tag(
    request: Request, *, principal: Tagger, namespace: str, name: str, tag: str, session: Writing
) -> Response:
    """Remove an alias. The tags of versions stay."""
    alias = whole(tag)
    if naming.delete_tag(session, principal, f"{namespace}/{name}", alias):
        return answer(request, {})
    if find_snapshot(session, principal, namespace, name, MAIN).version is None:
        raise NotFound(f"{namespace}/{name} has no tags: it waits for its first version.", code="ALIAS_UNKNOWN")
    if alias in {f"v{each.version}" for each in catalog.get_adapter(session, principal, namespace, name).versions}:
        raise Forbidden(f"{alias} is a version, whose name stays: only aliases are removed.", code="VERSION_IMMUTABLE")
    aliases.remove_alias(session, principal, AdapterRef(namespace, name), alias)
    return answer(request, {})


@router.post("/models/{namespace}/{name}/branch/{branch}")
def create_branch(
    request: Request,
    *,
    principal: Pusher,
    namespace: str,
    name: str,
    branch: str,
    body: Annotated[NewBranch, Depends(JsonBody(NewBranch))],
    session: Writing,
) -> Response:
    """Make a branch beside `main`, which makes no versions."""
    found = find_snapshot(session, principal, namespace, name, body.startingPoint or MAIN)
    naming.create_branch(session, principal, found, whole(branch))
    return answer(request, {})


@router.delete("/models/{namespace}/{name}/branch/{branch}")
def delete_branch(
    request: Request, *, principal: Pusher, namespace: str, name: str, branch: str, session: Writing
) -> Response:
    """Remove a branch and what only it leads to."""
    naming.delete_branch(session, principal, f"{namespace}/{name}", whole(branch))
    return answer(request, {})


@router.post("/models/{namespace}/{name}/super-squash/{branch}")
def squash(
    request: Request,
    *,
    principal: Pusher,
    namespace: str,
    name: str,
    branch: str,
    body: Annotated[Squashing, Depends(JsonBody(Squashing))],
    session: Writing,
) -> Response:
    """Make one draft of a branch. Versions stay."""
    named = whole(branch)
    message = body.message or f"Super-squash branch '{named}'"
    naming.squash(session, principal, f"{namespace}/{name}", named, message)
    return answer(request, {})


@router.post("/models/{namespace}/{name}/discussions")
def open_discussion(
    principal: Annotated[Principal, Depends(Wired(Action.PUSH))], namespace: str, name: str
) -> Response:
    """Refused."""
    raise Invalid(
        f"There are no discussions and no pull requests here: {principal.name} commits to {namespace}/{name} directly.",
        code="PULL_REQUESTS_UNSUPPORTED",
    )


@router.get("/models/{namespace}/{name}/discussions")
def list_discussions(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """None: nobody but who may push has anything stored in an adapter."""
    find_snapshot(session, reader, namespace, name, MAIN)
    return answer(request, {"discussions": [], "count": 0, "start": 0, "numClosedDiscussions": 0})


def _named(principal: Principal, body: NewRepository | OldRepository) -> tuple[str, str]:
    """Namespace and name, in small letters as all names are here."""
    namespace, _, name = body.name.rpartition("/")
    return (body.organization or namespace or principal.name).lower(), name.lower()


def _require_model(kind: str | None) -> None:
    if kind not in (None, "model"):
        raise Invalid(f"A {kind} is not kept here: this hub has adapters, which are models.", code="KIND_UNSUPPORTED")
