"""`alias`: names that move from version to version, and where they were when."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app
from sdk.models.aliases import Alias
from vera.errors import RefError
from vera.ref import AdapterRef, SelectorKind, kind_of_selector

adapter_argument = click.argument("adapter", metavar="OWNER/NAME")
name_argument = click.argument("name", metavar="ALIAS")
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


@click.group()
def alias() -> None:
    """Names that move from version to version: prod, staging.

    OWNER/NAME@prod is a reference like any other. Every move is kept: who, when, from where to where.
    """


@alias.command(name="set")
@click.argument("ref", metavar="OWNER/NAME@VERSION")
@name_argument
@click.option("--expected", metavar="VERSION", help="Only if the alias means this version now (v2).")
@click.option("--new", "must_be_new", is_flag=True, help="Only if the alias is not set yet.")
@click.option("--protect/--unprotect", "protected", default=None, help="Whether moving it takes a maintainer.")
@pass_app
def set_(app: App, ref: str, name: str, *, expected: str | None, must_be_new: bool, protected: bool | None) -> None:
    """Let ALIAS mean a version."""
    wanted = AdapterRef.parse(ref)
    _require_version_first(wanted, name)
    with app.hub() as hub:
        now = hub.set_alias(wanted, name, expected=expected, must_be_new=must_be_new, protected=protected)
    terminal.say(f"{wanted.adapter_id}@{clean(now.name)} → v{now.version}{'  (protected)' if now.protected else ''}")


@alias.command(name="list")
@adapter_argument
@json_option
@pass_app
def list_(app: App, adapter: str, *, as_json: bool) -> None:
    """Show the aliases of an adapter, and what each means."""
    ref = AdapterRef.parse(adapter)
    with app.hub() as hub:
        found = list(hub.list_aliases(ref))
    if as_json:
        terminal.say_json(found)
        return
    columns = ("alias", "means", "since", "by", "")
    rows = [
        (each.name, f"v{each.version}", _minute(each.updated_at), each.updated_by, "protected" * each.protected)
        for each in found
    ]
    none = f"No aliases. `vera-hub alias set {ref.adapter_id}@v1 prod` sets one."
    terminal.say_table(columns, rows, none=none)


@alias.command()
@adapter_argument
@name_argument
@click.option("--at", "time", metavar="TIME", help="What it meant then: 2026-03-14, or 2026-03-14T12:00 (UTC).")
@json_option
@pass_app
def show(app: App, adapter: str, name: str, *, time: str | None, as_json: bool) -> None:
    """Show which version ALIAS means, or meant at a time."""
    ref = AdapterRef.parse(adapter)
    with app.hub() as hub:
        found = hub.get_alias(ref, name) if time is None else hub.alias_at(ref, name, _moment(time))
    if as_json:
        terminal.say_json(found)
    elif isinstance(found, Alias):
        protected = ", protected" * found.protected
        said = f"means v{found.version}, since {_minute(found.updated_at)} UTC by {clean(found.updated_by)}{protected}"
        terminal.say(f"{ref.adapter_id}@{clean(name)} {said}.")
    else:
        until = f"until {_minute(found.until)} UTC" if found.until else "and means it still"
        said = f"meant v{found.after}, from {_minute(found.at)} UTC by {clean(found.by)} {until}"
        terminal.say(f"{ref.adapter_id}@{clean(name)} {said}.")


@alias.command()
@adapter_argument
@name_argument
@json_option
@pass_app
def history(app: App, adapter: str, name: str, *, as_json: bool) -> None:
    """Show what ALIAS has meant from when to when, newest first."""
    ref = AdapterRef.parse(adapter)
    with app.hub() as hub:
        moves = list(hub.alias_history(ref, name))
    if as_json:
        terminal.say_json(moves)
    else:
        rows = [(_version(move.after), _minute(move.at), _minute(move.until or "now"), move.by) for move in moves]
        terminal.say_table(("meant", "from (UTC)", "until", "set by"), rows)


@alias.command()
@adapter_argument
@name_argument
@pass_app
def rm(app: App, adapter: str, name: str) -> None:
    """Remove ALIAS. Its history stays."""
    ref = AdapterRef.parse(adapter)
    with app.hub() as hub:
        hub.remove_alias(ref, name)
    terminal.say(f"{ref.adapter_id} has no alias {clean(name)} any more.")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.BadParameter(f"{clean(text)} is no time: write 2026-03-14 or 2026-03-14T12:00.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _minute(time: str) -> str:
    return clean(time)[:16].replace("T", " ")


def _version(number: int | None) -> str:
    return "nothing" if number is None else f"v{number}"


def _require_version_first(ref: AdapterRef, name: str) -> None:
    """Raises UsageError where alias and version are the other way round, and says which way is right."""
    with suppress(RefError):
        if ref.selector_kind is SelectorKind.ALIAS and kind_of_selector(name) is SelectorKind.VERSION:
            raise click.UsageError(
                "The version comes first, and then the name that is to mean it: "
                f"`vera-hub alias set {ref.adapter_id}@{name} {ref.selector}`."
            )
