"""What a route asks for: the hub's parts, a session, and the principal that may do what it does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from hub.api.intake import Intake
from hub.auth.policy import Action, Principal, authorize
from hub.db.session import Database
from hub.domain import accounts
from hub.errors import HubError, Unauthorized
from hub.settings import Settings
from hub.storage.blobs import BlobStore


@dataclass(frozen=True)
class Services:
    """The parts that `hub.app` has put together. `objects` is None when all blobs are in the database."""

    settings: Settings
    database: Database
    objects: BlobStore | None
    intake: Intake


def services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def read_session(parts: Annotated[Services, Depends(services)]) -> Iterator[Session]:
    """A session on one snapshot of the data."""
    with parts.database.reading() as session:
        yield session


def write_session(parts: Annotated[Services, Depends(services)]) -> Iterator[Session]:
    """A session that is committed when the route returns. To be used with scope="function", so that it
    is committed before the answer leaves."""
    with parts.database.writing() as session:
        yield session


class Allowed:
    """The principal of a request, once it is known that they may do `action`.

    Comes before anything that reads the body: strangers send no bytes that we keep.
    """

    def __init__(self, action: Action) -> None:
        self.action = action

    async def __call__(self, request: Request, parts: Annotated[Services, Depends(services)]) -> Principal | None:
        secret = _bearer(request)
        principal = await run_in_threadpool(_authenticate, parts.database, secret) if secret else None
        authorize(principal, self.action, request.path_params.get("namespace"))
        return principal


HubParts = Annotated[Services, Depends(services)]
Reading = Annotated[Session, Depends(read_session)]
Writing = Annotated[Session, Depends(write_session, scope="function")]
ReadOnly = Depends(Allowed(Action.READ))


def declared_action(dependant: Dependant) -> Action | None:
    """The action that a route's dependencies ask permission for."""
    if isinstance(dependant.call, Allowed):
        return dependant.call.action
    found = (declared_action(each) for each in dependant.dependencies)
    return next((action for action in found if action is not None), None)


def routes_of(app: FastAPI) -> list[RouteContext]:
    """Every route of the app, those of its routers too."""
    return [route for route in iter_route_contexts(app.routes) if isinstance(route.original_route, APIRoute)]


def require_declared_actions(app: FastAPI) -> None:
    """Raises RuntimeError when a route declares no action: forgetting it must not mean allowing it."""
    forgotten = [str(route.path) for route in routes_of(app) if declared_action(route.dependant) is None]
    if forgotten:
        raise RuntimeError(f"These routes declare no action: {', '.join(forgotten)}.")


def _bearer(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthorized("The Authorization header must be `Bearer` and a token.", code="TOKEN_INVALID")
    return secret.strip()


def _authenticate(database: Database, secret: str) -> Principal:
    with database.reading() as session:
        principal, is_note_due = accounts.authenticate(session, secret)
    if is_note_due:
        with suppress(HubError), database.writing() as session:  # a full disk keeps nobody from reading
            accounts.note_use(session, principal)
    return principal
