"""`lineage`: what a version was made from, and what was made from it."""

from __future__ import annotations

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.terminal import App, clean, pass_app


@click.command()
@click.argument("ref")
@json_option
@pass_app
def lineage(app: App, ref: str, *, as_json: bool) -> None:
    """Show what a version was made from, and what was made from it.

    REF is the version, as in `pull`. A chain of parents ends where one is not for you to see.
    """
    from vera.ref import AdapterRef

    with app.hub() as hub:
        found = hub.lineage(AdapterRef.parse(ref))
    if as_json:
        terminal.say_json(found)
        return
    terminal.say(f"{clean(found.ref)}, an adapter of {clean(found.base.name)}")
    rows = [("from", clean(each)) for each in found.ancestors] + [("into", clean(each)) for each in found.children]
    if rows:
        terminal.say_table(("", "version"), rows)
    else:
        terminal.say("Made from no other version, and none was made from it: `vera-hub push --parent` says it.")
