"""`sdk.export`: an adapter for those who have none of this: merged into its base, or as a LoRA or a VeRA of PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sdk import finding
from sdk.explaining import explained
from sdk.loading import check_files, door_to, is_live, locate_for, open_base, reporting
from vera.errors import BaseUnreadable, VeraError
from vera.folders import check_new, check_writable
from vera.projection import DEFAULT_BUDGET_BYTES

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.config import Config
    from vera.fingerprint import Progress
    from vera.nn.exporting import Exported

FORMS = ("merged", "lora", "peft")
DTYPES = ("float32", "bfloat16", "float16")


def export(
    base: str | Path,
    adapter: str | Path,
    to: Path | str,
    *,
    form: str = "merged",
    dtype: str | None = None,
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    config: Config | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Writes `adapter` (a reference, or a folder: a Path, or text such as `./my-adapter`) to the new folder `to` in a form that others read.

    "merged" is the checkpoint of `base` with the adapter in its weights: an ordinary model, and
    another one than its base, with a fingerprint of its own; in `dtype` ("float32", "bfloat16", "float16") where that is
    given, and otherwise in the base's, which rounds. "lora" is a LoRA of PEFT of the
    adapter's rank (a DoRA, for DVoRA), many times larger than the adapter. "peft" is PEFT's own VeRA
    checkpoint, with the matrices in it. Either way
    `vera_export.json` says what it was made of, and a head that was trained beside the vectors
    lies in `vera_head.safetensors`, where PEFT has no place for it.

    `base` is a folder, a name this machine knows or a Hugging Face id, and is proven first. Raises
    BaseMismatch, TargetError (MERGE_QUANTIZED, MERGE_TIED, MERGE_OVERFLOW), ArchiveError (FOLDER_TAKEN, FOLDER_UNWRITABLE), HubError.
    """
    _check_form(form, dtype)
    if is_live(base):
        raise BaseUnreadable(
            f"export reads the files of a base, and was given a {type(base).__name__} in memory: give its folder, a name this machine knows or "
            "a Hugging Face id. What was trained on a model in memory is written by sdk.save(model, FOLDER), and that is exported."
        )
    out = Path(to)
    check_new(out)  # before gigabytes are read, not after
    check_writable(out)
    wanted = finding.parse(adapter)
    with door_to([wanted], config, hub) as door, reporting(progress) as report:
        (found,) = finding.find_many([wanted], hub=door, budget_bytes=budget_bytes)
        archive, config = found.archive, config or door.config
        path = locate_for(base, archive.manifest, config)
        with explained([found], hub=door):
            table = check_files(path, archive.manifest, config, report)
    from vera.nn import exporting
    from vera.nn.attach import attach

    model = open_base(path, archive.manifest)
    ref = found.title if found.fetched else None
    adapted = attach(model, archive, table, ref=ref, is_loaded_from_base=True, budget_bytes=budget_bytes)
    if form == "lora":
        return exporting.write_lora(adapted, archive, out)
    if form == "peft":
        return exporting.write_peft(adapted, archive, out)
    return exporting.write_merged(adapted, archive, path, out, dtype=exporting.DTYPES[dtype] if dtype else None)


def _check_form(form: str, dtype: str | None) -> None:
    if form not in FORMS:
        raise VeraError(f"form is {form!r} and can be {', '.join(FORMS)}.", code="FORM_UNKNOWN")
    if dtype is not None and form != "merged":
        raise VeraError(f"dtype is for the form merged: {form} holds the adapter in float32.", code="FORM_UNKNOWN")
    if dtype not in (None, *DTYPES):
        raise VeraError(f"dtype is {dtype!r} and can be {', '.join(DTYPES)}.", code="FORM_UNKNOWN")
