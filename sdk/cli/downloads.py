"""`downloads`: how often an adapter was downloaded."""

from __future__ import annotations

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.terminal import App, clean, counted, pass_app


@click.command()
@click.argument("name")
@click.option(
    "--days", type=click.IntRange(1, 366), default=30, show_default=True, help="How many days, today the last."
)
@json_option
@pass_app
def downloads(app: App, name: str, *, days: int, as_json: bool) -> None:
    """Show how often an adapter was downloaded.

    NAMESPACE/NAME is the adapter. Whoever downloads a version counts once a day.
    """
    from vera.ref import AdapterRef

    with app.hub() as hub:
        found = hub.downloads(AdapterRef.parse(name), days=days)
    if as_json:
        terminal.say_json(found)
        return
    lately = sum(each.count for each in found.days)
    terminal.say(f"{clean(found.id)}: {counted(found.total, 'download')}, {lately:,} in {counted(days, 'day')}.")
    if found.days:
        rows = [(each.day, f"v{each.version}", each.count) for each in found.days]
        terminal.say_table(("day (UTC)", "version", "downloads"), rows, right=("downloads",))
