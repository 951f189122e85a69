"""`vera-hub serve`: a process that listens, a profile that knows it, and beside it a worker and further processes."""

from __future__ import annotations

import getpass
import socket
import sys
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import click

from hub.app import create_app, is_loopback
from hub.auth.tokens import TokenKind
from hub.cli import joining, listening, profile
from hub.cli.logs import configure_logs
from hub.cli.supervising import Supervised
from hub.db.folder import prepare_folder, sole_use_of, write_secret
from hub.db.migrating import REVISION, migrate
from hub.db.session import Database
from hub.domain import accounts, users
from hub.errors import StartRefused
from hub.settings import Settings

LOG_FILE = "hub.log"
WORKER_LOG_FILE = "worker.log"


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
    listening.begin_process()
    with ExitStack() as held:
        locks = [held.enter_context(sole_use_of(settings.data_dir))] if settings.is_embedded else []
        prepare_folder(settings.data_dir)
        log_file = None if verbose else settings.data_dir / LOG_FILE
        configure_logs(log_file)
        listener = held.enter_context(_only_listener(settings))
        port = listener.getsockname()[1]
        if settings.blob_url is not None:
            _try_store(settings.blob_url)
        if settings.is_embedded:
            _migrate(settings)
        app = create_app(settings)
        secrets = open_local_account(app.state.services.database, settings)
        further = [
            held.enter_context(Supervised(f"process {number}", None, keeps=locks, drain_s=listening.DRAIN_S))
            for number in range(2, settings.processes + 1)
        ]
        worker = held.enter_context(Supervised("worker", None if verbose else settings.data_dir / WORKER_LOG_FILE))

        def ready() -> None:
            url = settings.public_url or _url(settings.host, port)
            moved = profile.remember(profile.folder(), url, profile.Login(secrets.user, secrets.personal))
            click.echo(f"Vera Hub is ready at {url} (data in {settings.data_dir})")
            if moved is not None:
                click.echo(_what_commands_mean(moved))
            if not (secrets.has_admin or is_loopback(settings.host)):
                click.echo(
                    f"It has no admin yet: `vera-hub login --bootstrap` here makes one ({settings.bootstrap_token_file})"
                )
            for each in further:
                each.start(*joining.one_more(settings.model_copy(update={"port": port}), log_file))
            if with_worker and _has_torch():
                at = {"VERA_HUB_URL": _url(settings.host, port), "VERA_HUB_TOKEN": secrets.worker}
                worker.start((sys.executable, "-m", "hub.worker"), at)

        def leaving() -> None:
            worker.stop()  # before all others: it may still have a result to hand in
            for each in further:
                each.ask_to_end()

        listening.Server(app, ready=ready, leaving=leaving).run(sockets=[listener])


def migrate_database(settings: Settings, *, keeps_copy: bool = True) -> str:
    """Brings the database to this release's schema and gives its name. Raises StartRefused."""
    with sole_use_of(settings.data_dir) if settings.is_embedded else nullcontext():
        _migrate(settings, keeps_copy=keeps_copy)
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


def _try_store(url: str) -> None:
    from hub.storage.trying import try_store  # 4 MB, which a hub that keeps its files in the database goes without

    try_store(url)


def _migrate(settings: Settings, *, keeps_copy: bool = True) -> None:
    with closing(Database(settings.resolved_database_url)) as database:
        migrate(database, keeps_copy=keeps_copy, say=partial(click.echo, err=True))


def _what_commands_mean(moved: profile.Moved) -> str:
    if moved.before is None:
        return "It is the default hub now."
    return f"It is the default hub now, and {moved.before} was: VERA_HUB_URL={moved.before} means that one."


def _refuse_open_address(host: str, allow_remote: bool) -> None:
    if allow_remote or is_loopback(host):
        return
    raise StartRefused(
        f"{host} can be reached from other machines, and tokens would cross the network in the open: put a proxy with "
        "TLS before the hub and say --allow-remote, or leave --host out.",
        code="REMOTE_REFUSED",
        exit_code=5,
    )


def _only_listener(settings: Settings) -> socket.socket:
    """The address, of this hub alone: processes that share one can share it with another hub's, too, so that it is first
    taken as one that is not shared."""
    alone = listening.listen(settings.host, settings.port)
    if settings.processes == 1:
        return alone
    with alone:
        port = alone.getsockname()[1]
    return listening.listen(settings.host, port, is_shared=True)


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
