"""`login` and `whoami`."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, pass_app


@click.command()
@click.option("--url", metavar="URL", help="The hub, before VERA_HUB_URL and the profile.")
@pass_app
def login(app: App, *, url: str | None) -> None:
    """Save a token for a hub, after trying it.

    The token comes from VERA_HUB_TOKEN, from standard input, or from a prompt that does not show it;
    never from the command line, where other users of the machine could read it.
    """
    from sdk.client import Hub
    from sdk.config import Config, Login, Profile, check_token

    config = Config.resolve(url=url or app.url)
    token = check_token(_read_token(config.url))
    if token is None:
        terminal.fail("No token was given, so nothing was saved: paste it, or pipe it in.")
    with Hub(replace(config, token=token)) as hub:
        account = hub.whoami()
    Profile.remember(config.folder, config.url, Login(token, account.name))
    terminal.say(f"Logged in to {config.url} as {terminal.clean(account.name)}; it is the default hub now.")


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
    terminal.say(f"{terminal.clean(account.name)} ({terminal.clean(account.kind)}) at {app.config.url}")
    terminal.say(f"May: {', '.join(map(terminal.clean, account.scopes)) or 'nothing'}")


def _read_token(url: str) -> str:
    from_environment = os.environ.get("VERA_HUB_TOKEN")
    if from_environment:
        return from_environment
    if sys.stdin.isatty():
        prompted: str = click.prompt(f"Token for {url}", hide_input=True, err=True)
        return prompted
    return sys.stdin.readline(4096)
