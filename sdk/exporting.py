"""`sdk.export`: an adapter for those who have none of this: merged into its base, or as a LoRA or a VeRA of PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sdk import finding
from sdk.config import Config
from sdk.loading import check_files, door_to, locate_for, open_base, reporting
from vera.errors import VeraError
from vera.projection import DEFAULT_BUDGET_BYTES

if TYPE_CHECKING:
    from sdk.client import Hub
    from sdk.finding import Found
    from vera.fingerprint import Progress
    from vera.nn.exporting import Exported

FORMS = ("merged", "lora", "peft")


def export(
    base: str | Path,
    adapter: str | Path,
    to: Path | str,
    *,
    form: str = "merged",
    budget_bytes: int = DEFAULT_BUDGET_BYTES,
    config: Config | None = None,
    hub: Hub | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Writes `adapter` (a reference, or a folder: a Path, or text such as `./my-adapter`) to the new folder `to` in a form that others read.

    "merged" is the checkpoint of `base` with the adapter in its weights: an ordinary model, and
    another one than its base, with a fingerprint of its own. "lora" is a LoRA of PEFT of the
    adapter's rank (a DoRA, for DVoRA), many times larger than the adapter. "peft" is PEFT's own VeRA
    checkpoint, with the matrices in it. Either way
    `vera_export.json` says what it was made of, and a head that was trained beside the vectors
    lies in `vera_head.safetensors`, where PEFT has no place for it.

    `base` is a folder, a name this machine knows or a Hugging Face id, and is proven first. Raises
    BaseMismatch, TargetError (MERGE_QUANTIZED, MERGE_TIED), ArchiveError (FOLDER_TAKEN), HubError.
    """
    if form not in FORMS:
        raise VeraError(f"form is {form!r} and can be {', '.join(FORMS)}.", code="FORM_UNKNOWN")
    found, config = _find(adapter, budget_bytes, config, hub), config or Config.resolve()
    archive, ref = found.archive, found.title if found.fetched else None
    path = locate_for(base, archive.manifest, config)
    from vera.nn import exporting
    from vera.nn.attach import attach

    exporting.check_new(Path(to))  # before gigabytes are read, not after
    with reporting(progress) as report:
        table = check_files(path, archive.manifest, config, report)
        model = open_base(path, archive.manifest)
        adapted = attach(model, archive, table, ref=ref, is_loaded_from_base=True, budget_bytes=budget_bytes)
    if form == "lora":
        return exporting.write_lora(adapted, archive, Path(to))
    if form == "peft":
        return exporting.write_peft(adapted, archive, Path(to))
    return exporting.write_merged(adapted, archive, path, Path(to))


def _find(adapter: str | Path, budget_bytes: int, config: Config | None, hub: Hub | None) -> Found:
    wanted = finding.parse(adapter)
    with door_to([wanted], config, hub) as door:
        (found,) = finding.find_many([wanted], hub=door, budget_bytes=budget_bytes)
    return found
