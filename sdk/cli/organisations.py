"""`org`: organisations, who is in them, and invitations."""

from __future__ import annotations

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app

ROLES = ("reader", "publisher", "maintainer", "owner")
role_argument = click.argument("role", type=click.Choice(ROLES))
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def org() -> None:
    """Organisations: shared namespaces with members.

    A reader sees the private adapters, a publisher pushes new versions, a maintainer makes new adapters and
    changes who sees them, an owner also says who is in.
    """


@org.command()
@click.argument("name")
@pass_app
def create(app: App, name: str) -> None:
    """Found an organisation, and own it."""
    with app.hub() as hub:
        made = hub.create_organisation(name)
    terminal.say(f"{clean(made.name)} is yours. Push with `vera-hub push FOLDER --name {clean(made.name)}/NAME`.")


@org.command(name="list")
@json_option
@pass_app
def list_mine(app: App, /, *, as_json: bool) -> None:
    """Show the organisations you are in."""
    with app.hub() as hub:
        found = list(hub.list_organisations())
    if as_json:
        terminal.say_json(found)
        return
    rows = [(each.name, each.role or "") for each in found]
    none = "You are in no organisation. `vera-hub org create NAME` founds one."
    terminal.say_table(("organisation", "you are"), rows, none=none)


@org.command()
@click.argument("name")
@json_option
@pass_app
def show(app: App, name: str, *, as_json: bool) -> None:
    """Show an organisation that you are in, and as what."""
    with app.hub() as hub:
        found = hub.get_organisation(name)
    if as_json:
        terminal.say_json(found)
        return
    terminal.say(
        f"{clean(found.name)}, since {clean(found.created_at)[:10]}. You are {clean(found.role or 'not in it')}."
    )


@org.command()
@click.argument("name")
@json_option
@pass_app
def members(app: App, name: str, *, as_json: bool) -> None:
    """Show who is in an organisation."""
    with app.hub() as hub:
        found = list(hub.list_members(name))
    if as_json:
        terminal.say_json(found)
        return
    terminal.say_table(("user", "role", "since"), [(each.user, each.role, each.since[:10]) for each in found])


@org.command()
@click.argument("name")
@click.argument("user")
@role_argument
@pass_app
def invite(app: App, name: str, user: str, role: str) -> None:
    """Invite a user, who then accepts or declines within seven days."""
    with app.hub() as hub:
        invitation = hub.invite(name, user, role)
    terminal.say(
        f"{clean(invitation.user)} is invited to {clean(invitation.organisation)} as {clean(invitation.role)} until "
        f"{invitation.expires_at[:10]}: `vera-hub org accept {clean(invitation.organisation)}` joins."
    )


@org.command()
@click.argument("name", required=False)
@json_option
@pass_app
def invitations(app: App, name: str | None, *, as_json: bool) -> None:
    """Show the open invitations to you, or those to the organisation NAME."""
    with app.hub() as hub:
        found = list(hub.list_invitations(name))
    if as_json:
        terminal.say_json(found)
        return
    rows = [(each.organisation, each.user, each.role, each.invited_by, each.expires_at[:10]) for each in found]
    terminal.say_table(("organisation", "user", "role", "invited by", "until"), rows, none="No invitation is open.")


@org.command()
@click.argument("name")
@click.argument("user")
@pass_app
def withdraw(app: App, name: str, user: str) -> None:
    """Take an invitation back."""
    with app.hub() as hub:
        hub.withdraw_invitation(name, user)
    terminal.say(f"{clean(user)} is no longer invited to {clean(name)}.")


@org.command()
@click.argument("name")
@pass_app
def accept(app: App, name: str) -> None:
    """Join the organisation that invited you."""
    with app.hub() as hub:
        joined = hub.accept_invitation(name)
    terminal.say(f"You are {clean(joined.role)} of {clean(joined.name)}.")


@org.command()
@click.argument("name")
@pass_app
def decline(app: App, name: str) -> None:
    """Say no to an invitation."""
    with app.hub() as hub:
        hub.decline_invitation(name)
    terminal.say(f"Declined: you do not join {clean(name)}.")


@org.command()
@click.argument("name")
@click.argument("user")
@role_argument
@pass_app
def role(app: App, name: str, user: str, role: str) -> None:
    """Give a member another role."""
    with app.hub() as hub:
        member = hub.change_role(name, user, role)
    terminal.say(f"{clean(member.user)} is {clean(member.role)} of {clean(name)}.")


@org.command()
@click.argument("name")
@click.argument("user")
@pass_app
def remove(app: App, name: str, user: str) -> None:
    """Take a member out."""
    with app.hub() as hub:
        hub.remove_member(name, user)
    terminal.say(f"{clean(user)} is no longer in {clean(name)}.")


@org.command()
@click.argument("name")
@pass_app
def leave(app: App, name: str) -> None:
    """Leave an organisation."""
    with app.hub() as hub:
        hub.remove_member(name, hub.whoami().name)
    terminal.say(f"You are no longer in {clean(name)}.")


@org.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Ask nothing.")
@pass_app
def delete(app: App, name: str, *, yes: bool) -> None:
    """End an organisation that has no adapters. Nobody ever gets its name."""
    if not yes:
        click.confirm(f"Delete {clean(name)} for good? Its name is never given again.", abort=True, err=True)
    with app.hub() as hub:
        hub.delete_organisation(name)
    terminal.say(f"{clean(name)} is deleted.")
