"""`access`: gated adapters, whose files are given to whom their owners let in."""

from __future__ import annotations

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app
from vera.ref import AdapterRef

adapter_argument = click.argument("adapter", metavar="OWNER/NAME")
user_argument = click.argument("user", metavar="USER")
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")

_GATES = {"auto": "auto", "manual": "manual", "no": None}
_WAITING = "{user} waits until an owner of {adapter} lets them in."
_WORDS = {
    "accepted": "{user} gets the files of {adapter}.",
    "pending": _WAITING,
    "rejected": "{user} does not get the files of {adapter}.",
}


@click.group()
def access() -> None:
    """Gated adapters: whose files are given to whom their owners let in.

    Everybody who sees such an adapter reads what it is; its weights take access. Who has a role in its namespace
    has it.
    """


@access.command()
@adapter_argument
@click.argument("gate", type=click.Choice(list(_GATES)))
@pass_app
def gate(app: App, adapter: str, gate: str) -> None:
    """Gate an adapter of yours.

    manual: you let in who asks. auto: whoever is signed in and asks is let in, and you see who. no: files are given to
    everybody, whose requests are kept for when it is gated again.
    """
    with app.hub() as hub:
        changed = hub.set_gate(AdapterRef.parse(adapter), _GATES[gate])
    terminal.say(f"{clean(changed.id)} is {f'gated ({changed.gated})' if changed.gated else 'not gated'}.")


@access.command()
@adapter_argument
@click.option("--message", help="What its owners should know of you and of what you want it for.")
@pass_app
def ask(app: App, adapter: str, message: str | None) -> None:
    """Ask for the files of a gated adapter."""
    with app.hub() as hub:
        asked = hub.request_access(AdapterRef.parse(adapter), message=message)
    _say(adapter, asked.user, asked.state)


@access.command()
@adapter_argument
@json_option
@pass_app
def status(app: App, adapter: str, *, as_json: bool) -> None:
    """Show whether the files of an adapter are given to you."""
    with app.hub() as hub:
        found = hub.get_access(AdapterRef.parse(adapter))
    if as_json:
        terminal.say_json(found)
    elif found.files:
        terminal.say(f"You get the files of {clean(adapter)}.")
    elif found.state is None:
        terminal.say(
            f"You have not asked for the files of {clean(adapter)}: `vera-hub access ask {clean(adapter)}` does."
        )
    else:
        because = f": {clean(found.reason)}" if found.reason else ""
        terminal.say(f"Your request for {clean(adapter)} is {clean(found.state)}{because}.")


@access.command(name="list")
@adapter_argument
@click.option("--state", type=click.Choice(list(_WORDS)), help="Only these.")
@json_option
@pass_app
def list_(app: App, adapter: str, *, state: str | None, as_json: bool) -> None:
    """Show who has asked for the files of your adapter, or was let in."""
    with app.hub() as hub:
        found = list(hub.list_access_requests(AdapterRef.parse(adapter), state=state))
    if as_json:
        terminal.say_json(found)
        return
    rows = [(each.user, each.state, each.created_at[:10], each.message or "") for each in found]
    terminal.say_table(("user", "state", "since", "message"), rows, none="Nobody has asked.")


@access.command()
@adapter_argument
@user_argument
@pass_app
def accept(app: App, adapter: str, user: str) -> None:
    """Let USER in, whether they have asked or not."""
    _decide(app, adapter, user, "accepted")


@access.command()
@adapter_argument
@user_argument
@click.option("--reason", help="Why. USER reads it.")
@pass_app
def reject(app: App, adapter: str, user: str, *, reason: str | None) -> None:
    """Refuse USER, who may have had access until now. What they have downloaded stays theirs."""
    _decide(app, adapter, user, "rejected", reason)


@access.command()
@adapter_argument
@user_argument
@pass_app
def cancel(app: App, adapter: str, user: str) -> None:
    """Let USER wait again, as if nothing had been decided."""
    _decide(app, adapter, user, "pending")


def _decide(app: App, adapter: str, user: str, state: str, reason: str | None = None) -> None:
    with app.hub() as hub:
        decided = hub.decide_access(AdapterRef.parse(adapter), user, state, reason=reason)
    _say(adapter, decided.user, decided.state)


def _say(adapter: str, user: str, state: str) -> None:
    terminal.say(_WORDS.get(state, "{user} is " + state + ".").format(user=clean(user), adapter=clean(adapter)))
