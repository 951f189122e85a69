"""`vera-hub serve`: one process that listens, a profile that knows it, and a worker beside it."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from types import FrameType
from typing import NoReturn

import click
import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from hub.app import create_app, is_loopback
from hub.auth.tokens import TokenKind
from hub.cli import profile
from hub.cli.deadlines import PromptProtocol
from hub.cli.logs import configure_logs
from hub.cli.supervising import SupervisedWorker
from hub.db.folder import prepare_folder, sole_use_of, write_secret
from hub.db.migrating import REVISION, migrate
from hub.db.session import Database
from hub.domain import accounts, users
from hub.errors import StartRefused
from hub.settings import Settings

LOG_FILE = "hub.log"
WORKER_LOG_FILE = "worker.log"
# In-flight requests get this long to finish when the hub is stopped.
DRAIN_S = 30


@dataclass(frozen=True)
class Secrets:
    """The tokens of this run: of the local user, and of the workers of this machine. `has_admin` is False while
    the code in `bootstrap_token_file` makes somebody the first admin."""

    user: str
    personal: str
    worker: str
    has_admin: bool


def serve_hub(settings: Settings, *, with_worker: bool, allow_remote: bool, verbose: bool) -> None:
    """Runs the hub until SIGTERM or Ctrl-C. Raises StartRefused when it cannot or must not start."""
    _refuse_open_address(settings.host, allow_remote)
    os.umask(0o077)  # what the hub writes is its owner's alone
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)  # uvicorn takes them over while it runs, and hands them back at its end
    with ExitStack() as held:
        if settings.is_embedded:
            held.enter_context(sole_use_of(settings.data_dir))
        prepare_folder(settings.data_dir)
        configure_logs(None if verbose else settings.data_dir / LOG_FILE)
        listener = held.enter_context(_listen(settings.host, settings.port))
        app = create_app(settings)
        secrets = open_local_account(app.state.services.database, settings)
        worker = held.enter_context(SupervisedWorker(None if verbose else settings.data_dir / WORKER_LOG_FILE))
        port = listener.getsockname()[1]

        def ready() -> None:
            url = settings.public_url or _url(settings.host, port)
            profile.remember(profile.folder(), url, profile.Login(secrets.user, secrets.personal))
            click.echo(f"Vera Hub is ready at {url} (data in {settings.data_dir})")
            if not (secrets.has_admin or is_loopback(settings.host)):
                click.echo(
                    f"It has no admin yet: `vera-hub login --bootstrap` here makes one ({settings.bootstrap_token_file})"
                )
            if with_worker and _has_torch():
                worker.start(_url(settings.host, port), secrets.worker)

        # The worker goes first: it may still have a result to hand in.
        _Server(_uvicorn_config(app), ready=ready, leaving=worker.stop).run(sockets=[listener])


def migrate_database(settings: Settings) -> str:
    """Brings the database to this release's schema and gives its name. Raises StartRefused."""
    with ExitStack() as held:
        if settings.is_embedded:
            held.enter_context(sole_use_of(settings.data_dir))
        database = Database(settings.resolved_database_url)
        held.callback(database.close)
        migrate(database)
    return REVISION


def open_local_account(database: Database, settings: Settings) -> Secrets:
    """The tokens for the user and the workers of this machine, made when they are not there or no longer good.
    Whoever has logged in here meanwhile, as whatever user, stays so.

    An embedded hub always gives its worker a new one, which shuts out a worker that outlived an earlier run.
    """
    user, token_file = local_user(settings), settings.worker_token_file
    logins = [login.token for login in profile.read(profile.folder()).logins.values()]
    workers = [token_file.read_text().strip()] if token_file.exists() else []
    with database.writing() as session:
        account_id = accounts.ensure_user(session, user)
        if settings.is_embedded:
            accounts.revoke_tokens(session, account_id, TokenKind.WORKER)
        login = accounts.known_login(session, logins)
        if login is None:
            login = user, accounts.issue_token(session, account_id, TokenKind.PERSONAL)
        worker = accounts.keep_or_issue_token(session, account_id, TokenKind.WORKER, workers)
        bootstrap = users.offer_bootstrap(session, account_id)
    write_secret(token_file, worker)
    if bootstrap is not None:
        write_secret(settings.bootstrap_token_file, bootstrap)
    return Secrets(*login, worker, has_admin=bootstrap is None)


class _Server(uvicorn.Server):
    """uvicorn, saying when it really listens, and when it is about to stop and still answers."""

    def __init__(self, config: uvicorn.Config, *, ready: Callable[[], None], leaving: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._leaving = leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await run_in_threadpool(self._leaving)
        await super().shutdown(sockets)


def _uvicorn_config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,  # ours is set up
        access_log=False,  # the gate writes a line per request
        server_header=False,
        proxy_headers=False,  # nobody's word about who is calling is taken
        http=PromptProtocol,
        ws="none",
        timeout_graceful_shutdown=DRAIN_S,
    )


def _refuse_open_address(host: str, allow_remote: bool) -> None:
    if allow_remote or is_loopback(host):
        return
    raise StartRefused(
        f"{host} can be reached from other machines, and tokens would cross the network in the open: put a proxy with "
        "TLS before the hub and say --allow-remote, or leave --host out.",
        code="REMOTE_REFUSED",
        exit_code=5,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartRefused(
            f"{host} port {port} cannot be used ({error.strerror}): choose another with --port; 0 takes a free one.",
            code="ADDRESS_TAKEN",
            exit_code=1,
        ) from error
    return listener


def _url(host: str, port: int) -> str:
    """How this machine reaches the hub."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104  # a comparison
    return f"http://{name}:{port}"


def local_user(settings: Settings) -> str:
    """The name of the account that is this machine's own."""
    return settings.user or _system_user()


def _system_user() -> str:
    try:
        return accounts.user_name_from(getpass.getuser())
    except (OSError, KeyError):  # a container without an entry for its user
        return accounts.user_name_from("")


def _has_torch() -> bool:
    if find_spec("torch"):
        return True
    click.echo("No evaluation worker was started: it needs torch (pip install 'vera-hub[eval]').", err=True)
    return False


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
