"""`import`: from a checkpoint of PEFT to a folder that `vera-hub push` takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sdk.cli import terminal
from sdk.cli.terminal import App, clean, pass_app

if TYPE_CHECKING:
    from vera.manifest import BaseIdentity
    from vera.peft_import import Imported


@click.command(name="import")
@click.argument("peft_folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--base", required=True, help="A base this machine knows (`vera-hub base add`), or a folder.")
@click.option(
    "--trained-in",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    help="The dtype the base was held in during training, where the checkpoint does not tell.",
)
@click.option(
    "--labels",
    metavar="A,B,…",
    help="What the outputs of a classifier are called, in their order. Default: as the base's configuration says.",
)
@pass_app
def import_peft(
    app: App, peft_folder: Path, out: Path, *, base: str, trained_in: str | None, labels: str | None
) -> None:
    """Turn a VeRA checkpoint of PEFT into an adapter, and write it to OUT.

    The matrices that PEFT saves are recognised and left out: the recipe that gives them takes their place.
    Where none gives them, they are kept beside the adapter.
    """
    from sdk import bases, identities, tensor_tables
    from vera import archive, folders
    from vera.peft_checkpoint import read_checkpoint
    from vera.peft_format import HEAD_FILE
    from vera.peft_import import import_checkpoint
    from vera.peft_matrices import Evidence

    if out.resolve() == peft_folder.resolve():
        terminal.fail(f"{out} is the checkpoint itself: choose another place for the adapter.")
    folders.check_replaceable(out, ())  # before the base is hashed, not after
    folders.check_writable(out)
    path = bases.locate(base, config=app.config)
    with terminal.bytes_progress("Fingerprinting the base") as progress:
        table = tensor_tables.fingerprint_of(path, config=app.config, progress=progress)
    named = identities.identity_of(path, table, base, config=app.config)
    with terminal.spinner(f"Importing {clean(peft_folder)}"):
        imported = import_checkpoint(
            read_checkpoint(peft_folder),
            table,
            base_name=named.name,
            base_revision=named.revision,
            trained_in=trained_in,
            labels=labels.split(",") if labels is not None else None,
            labels_of_base=bases.labels_of(path),
            base_config=named.config,
            base_tokenizer=named.tokenizer,
            base_processor=named.processor,
        )
        archive.write_folder(imported.archive, out)
    if imported.evidence is Evidence.SEED and trained_in is None:
        _note_what_is_assumed(imported)
    _say(imported, out)
    if not imported.archive.manifest.head and (peft_folder / HEAD_FILE).exists():
        terminal.note(
            f"The head in {HEAD_FILE}, which `vera-hub export` writes beside what PEFT reads, is not imported: "
            "`vera-hub pull` gives the adapter with it."
        )


def _note_what_is_assumed(imported: Imported) -> None:
    terminal.note(
        "The checkpoint holds no matrices to compare with. Seed and rank are those of its configuration, and the base is "
        f"taken to have been held in {imported.archive.manifest.recipe.rounding} during training; if it was held in "
        "another dtype, import again with --trained-in."
    )


def _say(imported: Imported, out: Path) -> None:
    manifest = imported.archive.manifest
    recipe, size_bytes = manifest.recipe, imported.archive.size_bytes
    terminal.say(f"{out}  {manifest.digest}")
    terminal.say(f"  base        {clean(manifest.base.name)}  {manifest.base.fingerprint}")
    config = manifest.base.config
    settings = (
        f"{len(config.all)} of the base are recorded, and compared when it is loaded"
        if config
        else "not recorded: they need the base's config.json, and transformers"
    )
    terminal.say(f"  settings    {settings}")
    terminal.say(f"  reads       {_reading(manifest.base)}")
    terminal.say(
        f"  modules     {len(manifest.modules)}, {manifest.parameters:,} parameters ({manifest.weights.dtype})"
    )
    terminal.say(f"  projection  {recipe}")
    terminal.say(f"              from {imported.evidence}")
    if manifest.head:
        terminal.say(f"  head        {', '.join(tensor.name for tensor in manifest.head)}")
    if manifest.task and manifest.task.labels:
        terminal.say(f"  labels      {clean(', '.join(manifest.task.labels))}")
    saved = f", {imported.matrix_bytes:,} of them matrices that need not be kept" if imported.matrix_bytes else ""
    if recipe.is_stored:
        saved = f"; {recipe.size_bytes:,} more are its matrices, which a hub keeps once for all adapters that use them"
    terminal.say(f"  size        {size_bytes:,} bytes; PEFT's tensors were {imported.checkpoint_bytes:,}{saved}")
    terminal.say(f"\nPush it with: vera-hub push {out}")


def _reading(base: BaseIdentity) -> str:
    if base.tokenizer:
        return f"texts as the base's tokenizer does now: {len(base.tokenizer.examples)} examples are recorded"
    if base.processor is not None:
        return f"images as the base's processor does now: {len(base.processor)} settings are recorded"
    return "not recorded: it needs the base's tokenizer or image processor, and transformers"
