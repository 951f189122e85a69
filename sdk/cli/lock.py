"""`lock` and `sync`: what the references of a project mean, pinned in a file, and fetched by it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.locking import Lock, Locked

_LOCK_OPTION = click.option(
    "--file", "path", type=click.Path(path_type=Path, dir_okay=False), default=Path("vera.lock"), show_default=True,
    help="The lock.",
)  # fmt: skip


@click.command()
@click.argument("refs", nargs=-1, metavar="[REF]...")
@_LOCK_OPTION
@click.option("--check", is_flag=True, help="Change nothing; exit status 1 when the lock is not up to date.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def lock(app: App, refs: tuple[str, ...], *, path: Path, check: bool, as_json: bool) -> None:
    """Pin what each REF means now; without any, what is pinned already is brought up to date.

    Every version is fetched and checked before it is pinned.
    """
    from sdk.locking import Lock

    before = Lock.read(path) if path.exists() or not refs else Lock(where=path)
    wanted = [clean(ref) for ref in refs] or [locked.ref for locked in before.adapters]
    with app.hub() as hub, terminal.spinner("Asking what they mean"):
        if check:
            _check(before, wanted, hub, as_json)
            return
        after = before.with_pins(_pins_of(wanted, hub))
    after.write(path)
    if as_json:
        terminal.say_json({locked.ref: locked.to_json() for locked in after.adapters})
        return
    known = {locked.ref: locked for locked in before.adapters}
    for locked in after.adapters:
        terminal.say(f"{locked.ref} → v{locked.resolution.version}  {locked.resolution.digest}{_change(known, locked)}")


@click.command()
@_LOCK_OPTION
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def sync(app: App, *, path: Path, as_json: bool) -> None:
    """Fetch everything that the lock pins into the cache, and check it: afterwards it loads without a network."""
    from sdk import tensor_tables
    from sdk.fetching import fetch_many, with_pair
    from sdk.locking import Lock

    pinned = Lock.read(path)
    with app.hub() as hub, terminal.spinner("Fetching what is locked"):
        found = fetch_many([locked.parsed for locked in pinned.adapters], hub=hub, lock=pinned)
        fetched = [with_pair(each, hub=hub) for each in found]
        for fingerprint in sorted({locked.base for locked in pinned.adapters}):
            tensor_tables.table_of(fingerprint, hub=hub)
    if as_json:
        rows = [
            {"ref": f.version_ref, "digest": f.resolved.digest, "downloaded_bytes": f.downloaded_bytes} for f in fetched
        ]
        terminal.say_json(rows)
        return
    for each in fetched:
        origin = f"{each.downloaded_bytes:,} bytes fetched" if each.downloaded_bytes else "from the cache"
        terminal.say(f"{each.version_ref}  {each.resolved.digest}  ({origin}, every file verified)")


def _pins_of(refs: list[str], hub: Hub) -> list[Locked]:
    from sdk.fetching import fetch_many
    from sdk.locking import Locked

    return [Locked.of(fetched) for fetched in fetch_many(refs, hub=hub)] if refs else []


def _check(lock: Lock, refs: list[str], hub: Hub, as_json: bool) -> None:
    """Says what differs between the lock and what the hub says now, and ends with status 1 when anything does."""
    from sdk.resolving import ask
    from vera.ref import AdapterRef

    findings = []
    for ref in refs:
        pinned = lock.find(AdapterRef.parse(ref)).resolution
        now = ask(ref, hub=hub)
        if now.digest != pinned.digest:
            findings.append((ref, f"locked to v{pinned.version} ({pinned.digest}), now v{now.version} ({now.digest})"))
        elif now.yanked is not None:
            findings.append((ref, f"v{now.version} was yanked ({now.yanked})"))
    if as_json:
        terminal.say_json([{"ref": ref, "finding": finding} for ref, finding in findings])
    else:
        for ref, finding in findings:
            terminal.say(f"{ref}: {clean(finding)}")
        terminal.say(
            f"{len(findings)} of {len(refs)} are not up to date" if findings else f"All {len(refs)} are up to date"
        )
    if findings:
        raise click.exceptions.Exit(1)


def _change(known: dict[str, Locked], locked: Locked) -> str:
    before = known.get(locked.ref)
    if before is None:
        return "  (new)"
    return "" if before.resolution.digest == locked.resolution.digest else f"  (was v{before.resolution.version})"
