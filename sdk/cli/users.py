"""`user`: for admins."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.terminal import App, clean, pass_app

if TYPE_CHECKING:
    from sdk.models.accounts import Code


@click.group()
def user() -> None:
    """The users of the hub, for its admins."""


@user.command()
@click.argument("name")
@click.option("--admin", "is_admin", is_flag=True, help="An admin, too.")
@pass_app
def create(app: App, name: str, *, is_admin: bool) -> None:
    """Make a user, and print the code with which they sign in."""
    with app.hub() as hub:
        _say_code(app, hub.create_user(name, is_admin=is_admin))


@user.command()
@click.argument("name")
@pass_app
def code(app: App, name: str) -> None:
    """Print another code, for a user who cannot sign in any more."""
    with app.hub() as hub:
        _say_code(app, hub.create_code(name))


@user.command(name="list")
@json_option
@pass_app
def list_users(app: App, /, *, as_json: bool) -> None:
    """Show everybody."""
    with app.hub() as hub:
        found = list(hub.list_users())
    if as_json:
        terminal.say_json(found)
        return
    rows = [(each.name, "admin" if each.is_admin else "", each.created_at[:10]) for each in found]
    terminal.say_table(("user", "", "since"), rows)


@user.command()
@click.argument("name")
@click.argument("is_admin", metavar="yes|no", type=click.BOOL)
@pass_app
def admin(app: App, name: str, *, is_admin: bool) -> None:
    """Make a user an admin, or no longer one."""
    with app.hub() as hub:
        changed = hub.set_admin(name, is_admin=is_admin)
    terminal.say(f"{clean(changed.name)} is {'an admin' if changed.is_admin else 'no admin'}.")


@user.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@pass_app
def delete(app: App, name: str, *, yes: bool) -> None:
    """End an account. Its public adapters stay; its name is never given again."""
    if not yes:
        click.confirm(f"Delete {clean(name)} for good?", abort=True, err=True)
    with app.hub() as hub:
        hub.delete_user(name)
    terminal.say(f"{clean(name)} is deleted.")


def _say_code(app: App, made: Code) -> None:
    terminal.note(
        f"{clean(made.user)} runs `vera-hub login --url {app.config.url}` and pastes this, once, until {made.expires_at[:10]}:"
    )
    terminal.say(made.code)
