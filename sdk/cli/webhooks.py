"""`webhook`: addresses that hear of every change, and what was sent to them."""

from __future__ import annotations

from itertools import islice

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.terminal import App, clean, pass_app


@click.group()
def webhook() -> None:
    """Webhooks: addresses that hear of every change.

    A change is one in a namespace, or of one adapter in it. Messages are signed as https://www.standardwebhooks.com says; its libraries check them with the secret.
    """


@webhook.command()
@click.argument("name")
@click.argument("address", metavar="URL")
@click.option("--on", "actions", multiple=True, metavar="ACTION", help="Only this, as version.pushed. May be repeated.")
@json_option
@pass_app
def add(app: App, /, *, name: str, address: str, actions: tuple[str, ...], as_json: bool) -> None:
    """Send the changes of NAME, a namespace or NAMESPACE/ADAPTER, to URL. Prints the secret, this once."""
    namespace, _, adapter = name.partition("/")
    with app.hub() as hub:
        made = hub.add_webhook(namespace, address, adapter=adapter or None, actions=actions or None)
    if as_json:
        terminal.say_json(made)
        return
    terminal.note(f"Webhook {clean(made.id)} of {clean(made.target)}. What it gets is signed with this, shown once:")
    terminal.say(made.secret)


@webhook.command(name="list")
@click.argument("namespace")
@json_option
@pass_app
def list_webhooks(app: App, /, *, namespace: str, as_json: bool) -> None:
    """Show the webhooks of NAMESPACE."""
    with app.hub() as hub:
        found = list(hub.list_webhooks(namespace))
    if as_json:
        terminal.say_json(found)
        return
    rows = [
        (each.id, each.target, each.url, ", ".join(each.actions or ("everything",)), "gone" if each.disabled_at else "")
        for each in found
    ]
    terminal.say_table(
        ("id", "of", "to", "on", ""), rows, none=f"{namespace} has no webhook. `vera-hub webhook add` makes one."
    )


@webhook.command()
@click.argument("namespace")
@click.argument("webhook_id", metavar="ID")
@json_option
@pass_app
def secret(app: App, /, *, namespace: str, webhook_id: str, as_json: bool) -> None:
    """Give a webhook another secret, and print it, this once. The old one is good for a day beside it."""
    with app.hub() as hub:
        made = hub.change_webhook_secret(namespace, webhook_id)
    if as_json:
        terminal.say_json(made)
        return
    until = clean(made.old_secret_until or "")[:16].replace("T", " ")
    terminal.note(
        f"What webhook {clean(made.id)} gets is signed with this, and until {until} UTC with the old one too:"
    )
    terminal.say(made.secret)


@webhook.command(name="rm")
@click.argument("namespace")
@click.argument("webhook_id", metavar="ID")
@pass_app
def remove(app: App, namespace: str, webhook_id: str) -> None:
    """Send nothing to a webhook any more, and forget what was sent."""
    with app.hub() as hub:
        hub.remove_webhook(namespace, webhook_id)
    terminal.say(f"Webhook {clean(webhook_id)} of {clean(namespace)} is no more.")


@webhook.command()
@click.argument("namespace")
@click.argument("webhook_id", metavar="ID")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many, the newest.")
@json_option
@pass_app
def deliveries(app: App, /, *, namespace: str, webhook_id: str, limit: int, as_json: bool) -> None:
    """Show what was sent to a webhook, or waits to be."""
    with app.hub() as hub:
        found = list(islice(hub.list_deliveries(namespace, webhook_id), limit))
    if as_json:
        terminal.say_json(found)
        return
    rows = [
        (
            each.id,
            each.created_at[:19].replace("T", " "),
            each.action,
            each.state,
            each.attempts,
            each.status or "",
            each.error or "",
        )
        for each in found
    ]
    columns = ("id", "when (UTC)", "what", "state", "attempts", "answer", "")
    terminal.say_table(columns, rows, right=("attempts",), none="Nothing was sent to it yet.")


@webhook.command()
@click.argument("namespace")
@click.argument("webhook_id", metavar="ID")
@click.argument("delivery_id", metavar="DELIVERY")
@pass_app
def replay(app: App, namespace: str, webhook_id: str, delivery_id: str) -> None:
    """Send a message again, with the same id."""
    with app.hub() as hub:
        again = hub.replay_delivery(namespace, webhook_id, delivery_id)
    terminal.say(f"Message {clean(again.message_id)} is sent again.")
