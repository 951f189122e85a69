"""`audit`: the record of changes."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.terminal import App, clean, counted, pass_app

if TYPE_CHECKING:
    from sdk.models.record import AuditEvent


@click.command()
@click.argument("name", required=False)
@click.option("--hub", "is_of_hub", is_flag=True, help="What concerns the whole hub: users and bases. For admins.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="How many events, the newest.")
@click.option("--verify", is_flag=True, help="Check the whole record: each event names the hash of the one before it.")
@click.option("--known", metavar="HASH", help="With --verify: a hash noted earlier, which must still be there.")
@json_option
@pass_app
def audit(
    app: App, /, *, name: str | None, is_of_hub: bool, limit: int, verify: bool, known: str | None, as_json: bool
) -> None:
    """Show who has changed what in a namespace, and prove that nothing was taken out.

    NAME is a namespace, or an adapter as NAMESPACE/NAME; without it, your own namespace. For its owners, and the
    hub's admins.
    """
    if is_of_hub and name:
        raise click.UsageError("Either NAME or --hub.")
    if verify and "/" in (name or ""):
        raise click.UsageError("What is verified is the record of a whole namespace: leave the adapter out.")
    with app.hub() as hub:
        if is_of_hub:
            events = hub.audit_of_hub()
        else:
            namespace, _, adapter = (name or hub.whoami().name).partition("/")
            events = hub.audit(namespace, adapter or None)
        found = list(events) if verify else list(islice(events, limit))
    if verify:
        _verify(found, known)
    _show(found[:limit], as_json=as_json)


def _verify(events: list[AuditEvent], known: str | None) -> None:
    from sdk.auditing import check_chain

    check_chain(events, known=known)
    last = f" The last one's hash is {clean(events[0].hash)}: note it for --known." if events else ""
    terminal.note(f"{counted(len(events), 'event')}, each following the one before it.{last}")


def _show(events: list[AuditEvent], *, as_json: bool) -> None:
    if as_json:
        terminal.say_json(events)
        return
    rows = [(each.at[:19].replace("T", " "), each.actor, each.action, each.subject, _facts(each)) for each in events]
    terminal.say_table(("when (UTC)", "who", "what", "of", "more"), rows, none="Nothing is on record yet.")


def _facts(event: AuditEvent) -> str:
    return ", ".join(_fact(name, value) for name, value in event.facts.items() if value not in (None, False))


def _fact(name: str, value: object) -> str:
    if value is True:
        return name
    return f"{name}: {' '.join(map(str, value)) if isinstance(value, list) else value}"
