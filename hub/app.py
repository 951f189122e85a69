"""The only wiring: settings in, a working hub out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

import vera
from hub.access.answers import Again
from hub.access.intake import Intake
from hub.access.mirror import Mirror
from hub.access.permission import ReadOnly, require_declared_actions
from hub.access.relay import Relay
from hub.access.services import Services
from hub.access.visiting import Visiting
from hub.api import (
    access,
    adapters,
    aliases,
    audit,
    bases,
    evaluations,
    feeds,
    logins,
    metrics,
    oauth,
    openapi,
    organisations,
    projections,
    publishers,
    relations,
    service,
    tokens,
    users,
    webhooks,
    withdrawals,
    workers,
)
from hub.api import errors as api_errors
from hub.api.errors import Problem
from hub.api.middleware import LOOPBACK_NAMES, Gate
from hub.api.parameters import require_known
from hub.api.reference import render_reference
from hub.auth.identities import Issuers
from hub.auth.policy import Action
from hub.db.folder import prepare_folder, read_secret
from hub.db.migrating import migrate, require_current
from hub.db.queries import listings, random_keys
from hub.db.session import Database
from hub.domain import finding
from hub.domain.deliveries import LOOK_EVERY_S, send_due
from hub.domain.downloads import FLUSH_EVERY_S, DownloadCounter
from hub.domain.periodic import Periodic
from hub.hf import commits as hf_commits
from hub.hf import files as hf_files
from hub.hf import gates as hf_gates
from hub.hf import listing as hf_listing
from hub.hf import making as hf_making
from hub.hf import relayed as hf_relayed
from hub.hf import repositories as hf_repositories
from hub.hf.addresses import WholeSegments
from hub.hf.errors import as_refusal
from hub.sending.models import ModelHub
from hub.sending.posting import Poster
from hub.sending.upstream import Upstream
from hub.settings import Settings
from hub.web import access as access_pages
from hub.web import boards as board_pages
from hub.web import devices as device_pages
from hub.web import evaluations as evaluation_pages
from hub.web import publishers as publisher_pages
from hub.web import routes as pages
from hub.web import settings as settings_pages
from hub.web import webhooks as webhook_pages
from hub.web.assets import asset_url
from hub.web.errors import error_page, to_sign_in, wants_page
from hub.web.pages import SECURITY_HEADERS

if TYPE_CHECKING:
    from hub.storage.objects import ObjectBlobs

UNLISTED_AT_ONCE = 500
# Whoever asked is told to come back, and does; a place in a thread is kept no longer for them.
STORE_PATIENCE = timedelta(seconds=10)
DESCRIPTION = "A registry of VeRA adapters: push, find, verify, load and compare them."


def create_app(settings: Settings) -> FastAPI:
    """The hub of these settings, its database open and of this release's schema.

    The embedded database is migrated; another one is not, and StartRefused says so.
    """
    parts = open_services(settings)
    app = FastAPI(
        title="Vera Hub",
        version=vera.__version__,
        description=DESCRIPTION,
        lifespan=_running(parts),
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.services = parts
    for door in (
        adapters,  # first: a request is compared with what comes before its route, and most are about these
        service,
        metrics,
        logins,
        oauth,
        tokens,
        users,
        organisations,
        publishers,
        audit,
        webhooks,
        feeds,
        bases,
        projections,
        access,
        relations,
        withdrawals,
        aliases,
        evaluations,
        workers,
    ):
        app.include_router(door.router, dependencies=[Depends(require_known)])
    if parts.relay is not None:  # before adapters: these names are the operator's
        app.include_router(hf_relayed.router)
    for wire in (hf_listing, hf_repositories, hf_files, hf_making, hf_commits, hf_gates):
        app.include_router(wire.router)
    app.get("/docs", include_in_schema=False, dependencies=[ReadOnly])(reference)
    own_pages = (settings_pages, device_pages, publisher_pages, webhook_pages)
    for account_pages in (*own_pages, access_pages, evaluation_pages):
        app.include_router(account_pages.router)
    app.include_router(board_pages.router, dependencies=[Depends(Visiting(Action.READ))])
    app.include_router(
        pages.router, dependencies=[Depends(Visiting(Action.READ))]
    )  # last: /{namespace}/{name} takes what is left
    openapi.install(app)
    api_errors.install(app, _as_its_door_says)
    app.add_middleware(Again)
    app.add_middleware(WholeSegments)
    allow_addresses = not is_loopback(settings.host)
    app.add_middleware(
        Gate,
        host_names=settings.host_names,
        allow_addresses=allow_addresses,
        render=_as_its_door_says,
        metering=parts.metering,
    )
    require_declared_actions(app)
    return app


def open_services(settings: Settings) -> Services:
    """The parts of the hub, opened and checked."""
    if settings.is_embedded:
        prepare_folder(settings.data_dir)
    objects = _objects_at(settings.blob_url) if settings.blob_url else None
    database = Database(settings.resolved_database_url, max_bytes=settings.max_database_bytes)
    try:
        (migrate if settings.is_embedded else require_current)(database)
    except BaseException:
        database.close()
        raise
    prepare_database(database)
    return Services(
        settings,
        database,
        objects,
        Intake(max(1, settings.large_bodies_at_once // settings.processes)),
        Issuers(settings.oidc_issuers),
        DownloadCounter(database),
        Poster(allow_loopback=settings.webhook_allow_loopback),
        _mirror_of(settings, database, objects),
        _relay_of(settings),
        _secret_of(settings, "metrics_token_file"),
    )


def _secret_of(settings: Settings, name: Literal["upstream_token_file", "metrics_token_file"]) -> str | None:
    file: Path | None = getattr(settings, name)
    return None if file is None else read_secret(file, setting=f"VERA_HUB_{name.upper()}")


def _objects_at(url: str) -> ObjectBlobs:
    from hub.storage.objects import ObjectBlobs  # 4 MB, which a hub that keeps its files in the database goes without

    return ObjectBlobs.from_url(url, patience=STORE_PATIENCE)


def _mirror_of(settings: Settings, database: Database, objects: ObjectBlobs | None) -> Mirror | None:
    if settings.upstream is None:
        return None
    token = _secret_of(settings, "upstream_token_file")
    if token is not None:
        database.share_mirrored()
    return Mirror(settings, Upstream(settings.upstream, token), database, objects)


def _relay_of(settings: Settings) -> Relay | None:
    if not settings.bases:
        return None
    from hub.storage.shelf import Shelf  # of object stores, as above

    here = settings.bases_folder.absolute().as_uri()
    shelf = Shelf.from_url(settings.blob_url, "bases") if settings.blob_url else Shelf.from_url(here, "kept")
    return Relay(settings, ModelHub(settings.bases_from), shelf)


def prepare_database(database: Database) -> None:
    """What every process needs of the database before it serves: its key, and every adapter in the lists."""
    with database.writing() as session:
        database.sign_with(random_keys.ensure(session, "cursors"))
        listings.count_numbers(session)
        last = finding.list_unlisted(session, UNLISTED_AT_ONCE)
    while last is not None:  # in short transactions: others may write in between
        with database.writing() as session:
            last = finding.list_unlisted(session, UNLISTED_AT_ONCE, after=last)


def is_loopback(host: str) -> bool:
    """True when only this machine can reach a server that listens there."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() in LOOPBACK_NAMES


def reference(request: Request) -> Response:
    """The API's operations, for people."""
    # FastAPI keeps every function that answers, for the life of the process, and whatever it closes over.
    styles = [asset_url("pico.min.css"), asset_url("hub.css")]
    return HTMLResponse(render_reference(request.app.openapi(), styles), headers=SECURITY_HEADERS)


def _as_its_door_says(request: Request, problem: Problem) -> Response | None:
    return oauth.as_refusal(request, problem) or as_refusal(request, problem) or _as_page(request, problem)


def _as_page(request: Request, problem: Problem) -> Response | None:
    """The problem as a page, for a browser that asked for a page."""
    if not wants_page(request):
        return None
    if problem.status == HTTPStatus.UNAUTHORIZED and request.method == "GET":
        return to_sign_in(request)
    return error_page(request, problem.status, problem.detail, request_id=request.state.request_id)


def _running(parts: Services) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What goes on beside the requests begins with the server, and is finished before its database is closed."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        beside = [
            Periodic("downloads", parts.downloads.flush, every_s=FLUSH_EVERY_S),
            Periodic("webhooks", lambda: send_due(parts.database, parts.poster), every_s=LOOK_EVERY_S),
        ]
        for each in beside:
            each.start()
        yield
        for each in beside:
            await run_in_threadpool(each.stop)
        if parts.mirror is not None:
            await run_in_threadpool(parts.mirror.close)
        if parts.relay is not None:
            await run_in_threadpool(parts.relay.close)
        parts.database.close()

    return lifespan
