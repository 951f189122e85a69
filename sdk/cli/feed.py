"""`feed`: what lately became of an adapter or of a namespace, for a feed reader."""

from __future__ import annotations

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, pass_app


@click.command()
@click.argument("name", metavar="NAMESPACE|ADAPTER")
@pass_app
def feed(app: App, name: str) -> None:
    """Print what lately became of an adapter, or of those of a namespace, as Atom.

    A feed reader asks the hub itself: /api/v1/adapters/NAMESPACE/ADAPTER/feed or /api/v1/namespaces/NAMESPACE/feed.
    """
    namespace, _, adapter = name.partition("/")
    with app.hub() as hub:
        found = hub.feed(namespace, adapter or None)
    terminal.say(found.decode("utf-8", "replace"))
