"""`versions`: every version of an adapter, what means it, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.organisations import json_option
from sdk.cli.terminal import App, pass_app, size

if TYPE_CHECKING:
    from sdk.models.aliases import Alias
    from sdk.models.versions import VersionSummary


@click.command()
@click.argument("name")
@json_option
@pass_app
def versions(app: App, name: str, *, as_json: bool) -> None:
    """List the versions of an adapter, what means each, and what became of it.

    NAMESPACE/NAME is the adapter; the newest comes first. Nothing is fetched: `info` shows one version, with proof.
    """
    from vera.ref import AdapterRef

    with app.hub() as hub:
        found = hub.get_adapter(AdapterRef.parse(name))
    if as_json:
        terminal.say_json(
            {"id": found.id, "latest": found.latest, "versions": found.versions, "aliases": found.aliases}
        )
        return
    say_versions(found.versions, latest=found.latest, aliases=found.aliases)


def say_versions(
    versions: Sequence[VersionSummary], *, latest: int | None = None, aliases: Sequence[Alias] = ()
) -> None:
    rows = [
        (
            f"v{each.version}", each.created_at[:10], each.created_by, each.rank, size(each.vector_bytes),
            _meant_by(each, latest, aliases), each.message or "", _standing(each),
        )
        for each in versions
    ]  # fmt: skip
    if rows:
        columns = ("version", "pushed", "by", "rank", "vectors", "is", "message", "")
        terminal.say_table(columns, rows, right=("rank", "vectors"))


def _meant_by(version: VersionSummary, latest: int | None, aliases: Sequence[Alias]) -> str:
    named = [each.name for each in aliases if each.version == version.version]
    return ", ".join((["latest"] if version.version == latest else []) + named)


def _standing(version: VersionSummary) -> str:
    """What became of the version, or what it is besides being there."""
    if version.deleted is not None:
        return f"deleted: {version.deleted}"
    if version.quarantined is not None:
        return f"in quarantine: {version.quarantined}"
    if version.yank_reason is not None:
        return f"yanked: {version.yank_reason}"
    if version.deprecated is not None:
        return f"deprecated: {version.deprecated.message}"
    return "pre-release" if version.prerelease else ""
