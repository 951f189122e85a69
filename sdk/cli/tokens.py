"""`token`: tokens for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.suggesting import with_suggestion
from sdk.cli.terminal import App, clean, pass_app
from sdk.errors import NotFound
from vera.ref import AdapterRef

if TYPE_CHECKING:
    from sdk.client import Hub

# What most programs need: see private adapters, push versions, ask for evaluations.
_USUAL = ("repo:read", "repo:push", "eval:submit")


@click.group()
def token() -> None:
    """Tokens for programs: made, listed, revoked.

    Making tokens takes one that came with `vera-hub login`; a token made here makes no others.
    """


@token.command()
@click.argument("name")
@click.option("--scope", "scopes", multiple=True, help=f"What it may do, several times. Default: {', '.join(_USUAL)}.")
@click.option("--days", type=click.IntRange(1, 365), default=90, show_default=True, help="How long it is good for.")
@click.option("--only", "only", multiple=True, metavar="NAMESPACE|ADAPTER", help="Restrict it to these.")
@click.option("--org", "organisation", help="Make it the organisation's, for its programs.")
@click.option("--worker", "for_worker", is_flag=True, help="For an evaluation worker; takes an admin.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def create(
    app: App,
    name: str,
    *,
    scopes: tuple[str, ...],
    days: int,
    only: tuple[str, ...],
    organisation: str | None,
    for_worker: bool,
    as_json: bool,
) -> None:
    """Make a token called NAME, and print it this once."""
    with app.hub() as hub:
        unknown = [_unknown(hub, each, app) for each in only]  # before: a token that is made must be printed
        made = hub.create_token(
            name,
            () if for_worker else scopes or _USUAL,
            expires_in_days=days,
            restricted_to=only or None,
            organisation=organisation,
            for_worker=for_worker,
        )
    for why in filter(None, unknown):
        terminal.note(f"Warning: {clean(why)} The token is made all the same, for when there is one.")
    if as_json:
        terminal.say_json(made)
        return
    scope = f", in {', '.join(map(clean, made.restricted_to))} alone" if made.restricted_to else ""
    terminal.note(
        f"{clean(made.account)}'s until {made.expires_at[:10]}; may {', '.join(map(clean, made.scopes))}{scope}."
    )
    terminal.note("It is shown this once: keep it where your program finds it, as VERA_HUB_TOKEN.")
    terminal.say(made.token)


def _unknown(hub: Hub, restriction: str, app: App) -> str | None:
    """What is to be said of an adapter that is not there, or not seen; of a namespace nothing is asked."""
    if "/" not in restriction:
        return None
    try:
        hub.get_adapter(AdapterRef.parse(restriction))
    except NotFound as error:
        return with_suggestion(error, app)
    return None


@token.command(name="list")
@click.option("--org", "organisation", help="Those of the organisation.")
@json_option
@pass_app
def list_tokens(app: App, /, *, organisation: str | None, as_json: bool) -> None:
    """Show your tokens, without their secrets."""
    with app.hub() as hub:
        found = list(hub.list_tokens(organisation=organisation))
    if as_json:
        terminal.say_json(found)
        return
    rows = [
        (
            each.id,
            f"{each.name or 'serve'}{' (this one)' if each.is_current else ''}",
            each.kind,
            f"…{each.last4}",
            ", ".join(each.restricted_to or ()) or "everything",
            (each.last_used_at or "never")[:16],
            each.expires_at[:10],
        )
        for each in found
    ]
    terminal.say_table(("id", "name", "kind", "ends", "for", "last used", "until"), rows)


@token.command()
@click.argument("token_id", metavar="ID")
@pass_app
def revoke(app: App, token_id: str) -> None:
    """Revoke a token; it is refused from the next request on."""
    with app.hub() as hub:
        hub.revoke_token(token_id)
    terminal.say(f"Token {clean(token_id)} is revoked.")
