"""`verify`: proof of an adapter and its base, without loading anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app

if TYPE_CHECKING:
    from sdk.config import Config


@click.command()
@click.argument("ref", metavar="REF|PATH")
@click.option("--base", help="The base to prove: a name, a folder or a Hugging Face id. Default: the one known here.")
@click.option("--locked", is_flag=True, help="Only what vera.lock pins.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@pass_app
def verify(app: App, ref: str, *, base: str | None, locked: bool, as_json: bool) -> None:
    """Prove that an adapter and its base are what they say.

    Every file is hashed, the frozen matrices are rebuilt and compared, and every tensor of the base's
    files is hashed. Exit status 1 for whatever is not as promised. Of a folder (`./my-adapter`) it is proven that it
    holds together as it would be pushed; no hub is asked.
    """
    from sdk.finding import find
    from sdk.locking import lock_for
    from sdk.verifying import verify as prove

    with app.hub() as hub, terminal.bytes_progress(f"Proving {clean(ref)}") as progress:
        if base is None:
            found = find(ref, hub=hub, lock=lock_for(locked))
            base = _known_base(found.archive.manifest.base.fingerprint, app.config)
        proven = prove(base, ref, locked=locked, hub=hub, progress=progress)
    if as_json:
        terminal.say_json(proven.to_dict())
        return
    terminal.say(proven)
    if not proven.is_complete:
        terminal.note("This machine does not know the base: prove it too with --base PATH.")


def _known_base(fingerprint: str, config: Config) -> str | None:
    from sdk.bases import list_known

    return next(
        (str(known.path) for known in list_known(config) if known.fingerprint == fingerprint and known.is_here), None
    )
