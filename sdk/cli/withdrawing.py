"""`yank`, `unyank`, `deprecate`, `delete` and `quarantine`: versions that are taken back, each way as strong as it has to be."""

from __future__ import annotations

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app
from vera.ref import AdapterRef

version_argument = click.argument("ref", metavar="OWNER/NAME@VERSION")
reason_option = click.option("--reason", required=True, help="Why. Everybody who meets the version reads it.")


@click.command()
@version_argument
@reason_option
@pass_app
def yank(app: App, ref: str, reason: str) -> None:
    """Take a version back: nothing that moves means it any more.

    Who names it by number, commit or digest still gets it, with a warning that gives the reason. An alias that
    means it has to be moved first. `vera-hub unyank` undoes it.
    """
    with app.hub() as hub:
        version = hub.yank(AdapterRef.parse(ref), reason)
    terminal.say(f"{clean(version.ref)} is yanked: {clean(version.yank_reason)}")


@click.command()
@version_argument
@pass_app
def unyank(app: App, ref: str) -> None:
    """Undo a yank."""
    with app.hub() as hub:
        version = hub.unyank(AdapterRef.parse(ref))
    terminal.say(f"{clean(version.ref)} is given out again.")


@click.command()
@version_argument
@click.option("--message", help="Why it is not to be used any more; with --use it may be left out.")
@click.option("--use", "replacement", metavar="REF", help="What to use instead.")
@click.option("--undo", is_flag=True, help="It is to be used again.")
@pass_app
def deprecate(app: App, ref: str, *, message: str | None, replacement: str | None, undo: bool) -> None:
    """Say that a version is not to be used any more, and what instead.

    It is given out as before, with a warning.
    """
    if undo is (message is not None or replacement is not None):
        raise click.UsageError("Give --message, --use or both to deprecate the version, or --undo alone.")
    with app.hub() as hub:
        parsed = AdapterRef.parse(ref)
        version = (
            hub.undeprecate(parsed)
            if undo
            else hub.deprecate(parsed, message or "there is a better one", replacement=replacement)
        )
    terminal.say(f"{clean(version.ref)} is {'deprecated' if version.deprecated else 'no longer deprecated'}.")


@click.command()
@version_argument
@reason_option
@click.option("--yes", is_flag=True, help="Ask nothing.")
@pass_app
def delete(app: App, ref: str, *, reason: str, yes: bool) -> None:
    """Delete a version for good.

    Within a day of its push, and while nobody else has fetched it; an admin of the hub at any time. Its number
    and its content are never given again. `vera-hub yank` takes back what others may have.
    """
    if not yes:
        click.confirm(f"Delete {clean(ref)} for good?", abort=True, err=True)
    with app.hub() as hub:
        hub.delete_version(AdapterRef.parse(ref), reason)
    terminal.say(f"{clean(ref)} is deleted.")


@click.command()
@version_argument
@click.option("--reason", help="Why. Everybody who asks for the version reads it.")
@click.option("--undo", is_flag=True, help="It is given out again.")
@pass_app
def quarantine(app: App, ref: str, *, reason: str | None, undo: bool) -> None:
    """Keep a version from being given out, as an admin of the hub."""
    if undo is (reason is not None):
        raise click.UsageError("Give --reason to put the version into quarantine, or --undo.")
    with app.hub() as hub:
        parsed = AdapterRef.parse(ref)
        version = hub.release(parsed) if reason is None else hub.quarantine(parsed, reason)
    terminal.say(f"{clean(version.ref)} is {'given out again' if undo else 'in quarantine'}.")
