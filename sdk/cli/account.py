"""`login`, `logout`, `whoami` and `password`."""

from __future__ import annotations

import os
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.config import Config
    from sdk.models.accounts import DeviceCode, SignedIn

_ADMIN_SCOPE = "admin"
_BOOTSTRAP_FILE = "bootstrap-token"
_LONGEST_INTERVAL_S = 30


@click.command()
@click.option("--url", metavar="URL", help="The hub, before VERA_HUB_URL and the profile.")
@click.option("--user", metavar="NAME", help="Sign in as NAME, with a password or for the first time.")
@click.option("--browser", is_flag=True, help="By a browser, here or on another machine, where you are signed in.")
@click.option("--oidc", is_flag=True, help="In a CI job: by the identity that the CI system gives it.")
@click.option("--bootstrap", is_flag=True, help="Become the first admin of a hub on this machine.")
@pass_app
def login(app: App, *, url: str | None, user: str | None, browser: bool, oidc: bool, bootstrap: bool) -> None:
    """Save a token for a hub, after trying it.

    What is asked for is a token, the code an admin has given you, or with --user the password. It comes from
    VERA_HUB_TOKEN, from standard input, or from a prompt that does not show it; never from the command line,
    where other users of the machine could read it. With --bootstrap it is the code that a hub on this machine
    has left in its folder. With --browser nothing is pasted: a page of the hub asks whether this machine is let in,
    and what it gives may do all but make other tokens and administer the hub. In a job of GitHub Actions, or of GitLab with an `id_token` called
    VERA_HUB_ID_TOKEN, nothing is asked: the workflow is what the hub trusts.
    """
    from sdk.config import Config

    config = Config.resolve(url=url or app.url)
    if browser:
        _try_and_save(config, _ask_in_browser(config))
        return
    if oidc or _is_job():
        _use_identity(config)
        return
    secret = _bootstrap_code() if bootstrap else _read_secret(config.url, "Password" if user else "Token or code")
    if not secret.strip():
        terminal.fail("No token was given, so nothing was saved: paste it, or pipe it in.")
    if bootstrap or secret.startswith("vhb_"):
        _save(config, _use_code(config, secret, user))
    elif user and not secret.startswith("vh"):
        _save(config, _sign_in(config, user, secret))
    else:
        _try_and_save(config, secret)


@click.command()
@pass_app
def logout(app: App) -> None:
    """Revoke the saved token and forget it."""
    from sdk.config import Profile
    from sdk.errors import Unauthorized

    with app.hub() as hub:
        try:
            hub.revoke_token("current")
        except Unauthorized:
            terminal.note("The token was good no longer.")
    Profile.forget(app.config.folder, app.config.url)
    terminal.say(f"Logged out of {app.config.url}.")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def whoami(app: App, *, as_json: bool) -> None:
    """Show whose the token is."""
    with app.hub() as hub:
        account = hub.whoami()
    if as_json:
        terminal.say_json(account)
        return
    admin = ", an admin" if account.is_admin else ""
    terminal.say(f"{clean(account.name)} ({clean(account.kind)}{admin}) at {app.config.url}")
    # The token of whoever has signed in has every scope, that of an admin too, whether or not they are one.
    may = [scope for scope in account.scopes if scope != _ADMIN_SCOPE or account.is_admin]
    terminal.say(f"May: {', '.join(map(clean, may)) or 'nothing'}")
    if account.restricted_to is not None:
        terminal.say(f"Only in: {', '.join(map(clean, account.restricted_to))}")
    if account.organisations:
        terminal.say(f"In: {', '.join(clean(f'{each.name} ({each.role})') for each in account.organisations)}")


@click.command()
@pass_app
def password(app: App) -> None:
    """Set or change your password, with which `vera-hub login --user` and the pages sign you in."""
    with app.hub() as hub:
        user = hub.whoami().name
        old = click.prompt("Old password (empty if there is none)", default="", hide_input=True, err=True)
        new = click.prompt("New password", hide_input=True, confirmation_prompt=True, err=True)
        hub.set_password(new, old=old or None)
    terminal.say(f"The password of {clean(user)} is changed.")


def _try_and_save(config: Config, secret: str) -> None:
    from sdk.client import Hub
    from sdk.config import Login, Profile, check_token

    token = check_token(secret)
    assert token is not None
    with Hub(replace(config, token=token)) as hub:
        account = hub.whoami()
    Profile.remember(config.folder, config.url, Login(token, account.name))
    terminal.say(f"Logged in to {config.url} as {clean(account.name)}; it is the default hub now.")


def _use_code(config: Config, secret: str, user: str | None) -> SignedIn:
    from sdk.client import Hub
    from sdk.config import check_token

    with Hub(replace(config, token=check_token(secret))) as hub:
        return hub.use_code(user=user)


def _sign_in(config: Config, user: str, secret: str) -> SignedIn:
    from sdk.client import Hub

    with Hub(replace(config, token=None)) as hub:
        return hub.sign_in(user, secret.rstrip("\r\n"))


def _save(config: Config, signed_in: SignedIn) -> None:
    from sdk.config import Login, Profile

    Profile.remember(config.folder, config.url, Login(signed_in.token, signed_in.user))
    role = ", an admin of it" if signed_in.is_admin else ""
    terminal.say(f"Logged in to {config.url} as {clean(signed_in.user)}{role}; it is the default hub now.")


def _ask_in_browser(config: Config) -> str:
    """The token that somebody at a browser gives this machine."""
    from sdk.client import Hub

    with Hub(replace(config, token=None)) as hub:
        asked = hub.begin_device_login(f"vera-hub on {socket.gethostname()}")
        terminal.say(f"Open {clean(asked.verification_uri_complete)}")
        terminal.say(f"and let in what shows {clean(asked.user_code)}.")
        return _wait_for_answer(hub, asked)


def _wait_for_answer(hub: Hub, asked: DeviceCode) -> str:
    from sdk.errors import Refused

    while True:
        time.sleep(min(max(asked.interval, 1), _LONGEST_INTERVAL_S))
        try:
            return hub.collect_device_login(asked.device_code).access_token
        except Refused as error:  # the hub says when it is too late
            if error.code != "AUTHORIZATION_PENDING":
                raise


def _is_job() -> bool:
    """True in a CI job that can say who it is and has been given no token."""
    has_identity = os.environ.get("ACTIONS_ID_TOKEN_REQUEST_URL") or os.environ.get("VERA_HUB_ID_TOKEN")
    return bool(has_identity) and not os.environ.get("VERA_HUB_TOKEN")


def _use_identity(config: Config) -> None:
    from sdk.client import Hub
    from sdk.config import Login, Profile

    with Hub(replace(config, token=None)) as hub:
        made = hub.exchange_identity(_identity(hub), namespace=os.environ.get("VERA_HUB_NAMESPACE"))
    Profile.remember(config.folder, config.url, Login(made.token, made.account))
    reach = ", ".join(map(clean, made.restricted_to))
    terminal.say(f"This job may push to {reach} at {config.url} for a quarter of an hour.")


def _identity(hub: Hub) -> str:
    given = os.environ.get("VERA_HUB_ID_TOKEN")
    if given:
        return given
    url, token = (os.environ.get(f"ACTIONS_ID_TOKEN_REQUEST_{what}") for what in ("URL", "TOKEN"))
    if not url or not token:
        terminal.fail(
            "This is no CI job with an identity: in GitHub Actions give it `permissions: id-token: write`, in GitLab an "
            "`id_token` called VERA_HUB_ID_TOKEN."
        )
    return hub.ask_ci_for_identity(url, token)


def _bootstrap_code() -> str:
    """The code in the folder of a hub that runs on this machine."""
    from platformdirs import user_data_path

    chosen = os.environ.get("VERA_HUB_DATA_DIR")
    file = (Path(chosen) if chosen else user_data_path("vera-hub")) / _BOOTSTRAP_FILE
    try:
        return file.read_text()
    except FileNotFoundError:
        terminal.fail(
            f"There is no {file}: the hub has an admin already, or its folder is another (set VERA_HUB_DATA_DIR), "
            "or it never ran."
        )


def _read_secret(url: str, what: str) -> str:
    from_environment = os.environ.get("VERA_HUB_TOKEN")
    if from_environment:
        return from_environment
    if sys.stdin.isatty():
        prompted: str = click.prompt(f"{what} for {url}", hide_input=True, err=True)
        return prompted
    return sys.stdin.readline(4096)
