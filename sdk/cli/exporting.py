"""`export`: from an adapter to a merged checkpoint, or to a checkpoint of PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app, size
from sdk.exporting import DTYPES

if TYPE_CHECKING:
    from vera.nn.exporting import Exported

# A share of the adapter, lost by rounding, that answers may show; float32 loses less than a millionth.
_WORTH_SAYING = 0.01
# What PEFT calls the checkpoint, and why it is larger than the adapter.
_KINDS = {
    "lora": ("LoRA", "each module has its own copy of the matrices now"),
    "peft": ("VeRA", "the matrices are in it"),
}


@click.command()
@click.argument("ref_or_path", metavar="REF|PATH")
@click.option("--base", required=True, help="A base this machine knows (`vera-hub base add`), or a folder.")
@click.option(
    "--merged", type=click.Path(path_type=Path), metavar="OUT", help="The base with the adapter in its weights."
)
@click.option(
    "--lora", type=click.Path(path_type=Path), metavar="OUT", help="A LoRA of PEFT, with factors bit for bit."
)
@click.option(
    "--peft", type=click.Path(path_type=Path), metavar="OUT", help="PEFT's own VeRA checkpoint, with the matrices."
)
@click.option("--dtype", type=click.Choice(DTYPES), help="Of --merged, every tensor. Default: as the base is stored.")
@pass_app
def export(
    app: App,
    ref_or_path: str,
    *,
    base: str,
    merged: Path | None,
    lora: Path | None,
    peft: Path | None,
    dtype: str | None,
) -> None:
    """Write an adapter in a form that needs nothing of this project.

    PATH is a folder with an adapter, written `./my-adapter` where it could be a reference too. The base is proven first.
    """
    from sdk.exporting import export as export_adapter
    from vera.folders import check_new, check_writable

    wanted = [(form, out) for form, out in (("merged", merged), ("lora", lora), ("peft", peft)) if out is not None]
    if not wanted:
        raise click.UsageError("Say what to write: --merged OUT, --lora OUT, --peft OUT, or several.")
    if dtype is not None and merged is None:
        raise click.UsageError("--dtype is for --merged: a LoRA or a VeRA of PEFT holds the adapter in float32.")
    for _, out in wanted:
        check_new(out)  # each of them before the first is written
        check_writable(out)
    for form, out in wanted:
        with terminal.bytes_progress("Reading the base") as progress:
            exported = export_adapter(
                base,
                ref_or_path,
                out,
                form=form,
                dtype=dtype if form == "merged" else None,
                config=app.config,
                progress=progress,
            )
        _say(exported)


def _say(exported: Exported) -> None:
    if exported.fingerprint:
        terminal.say(f"{clean(exported.folder)}  {exported.fingerprint}")
        terminal.say(f"  an ordinary checkpoint of {size(exported.tensor_bytes)}, and another model than its base")
        if exported.lost > _WORTH_SAYING:
            terminal.note(
                f"  its dtype cannot hold all of it: rounding took away {exported.lost:.0%} of what the adapter "
                "changes in the weights. Unmerged, as --lora, or merged with --dtype float32, it is whole."
            )
    else:
        times = exported.tensor_bytes / exported.vector_bytes
        kind, why = _KINDS[exported.form]
        terminal.say(f"{clean(exported.folder)}  a {kind} checkpoint of PEFT")
        terminal.note(
            f"  {exported.tensor_bytes:,} bytes, {times:,.0f} times the {exported.vector_bytes:,} of the vectors: {why}."
        )
    if exported.head:
        terminal.say(f"  the head is in {exported.head}: transformers and PEFT do not read it")
