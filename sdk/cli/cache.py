"""`cache list`, `cache prune` and `cache verify`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, counted, pass_app, size


@click.group()
def cache() -> None:
    """What was fetched before and is kept on this machine."""


@cache.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def list_cached(app: App, *, as_json: bool) -> None:
    """List the versions in the cache."""
    from sdk.housekeeping import list_versions

    versions = list_versions(app.config.cache)
    if as_json:
        terminal.say_json(versions)
        return
    terminal.say_table(
        ("version", "size", "fetched", "hub", ""),
        [
            (v.ref, size(v.size_bytes), _day(v.fetched_at_s), v.hub, "" if v.is_complete else "incomplete")
            for v in versions
        ],
        right=("size",),
        none=f"Nothing is kept in {clean(app.config.cache)} yet.",
    )


@cache.command()
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Also versions fetched earlier.")
@click.option("--all", "everything", is_flag=True, help="Everything that was fetched.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def prune(app: App, *, older_than: float | None, everything: bool, as_json: bool) -> None:
    """Remove what nothing refers to any more; nothing that is used is lost, it is fetched again."""
    from sdk import housekeeping

    pruned = housekeeping.prune(app.config.cache, older_than_days=older_than, everything=everything)
    if as_json:
        terminal.say_json(pruned)
    else:
        terminal.say(f"{counted(pruned.files, 'file')} removed, {size(pruned.size_bytes)}")


@cache.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def verify(app: App, *, as_json: bool) -> None:
    """Hash every file in the cache. Damaged ones are removed, and fetched again when they are needed.

    Exit status 1 when there were any.
    """
    from sdk import housekeeping

    with terminal.spinner("Hashing the cache"):
        checked = housekeeping.verify(app.config.cache)
    if as_json:
        terminal.say_json(checked)
    else:
        terminal.say(
            f"{counted(checked.files, 'file')}, {size(checked.size_bytes)}, {len(checked.damaged)} of them damaged"
        )
        for sha256 in checked.damaged:
            terminal.say(f"  {sha256}  removed")
    if checked.damaged:
        raise click.exceptions.Exit(1)


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
