"""The folder of an adapter, read and checked, and what is known of folders that hold none."""

from __future__ import annotations

import json
from pathlib import Path

from sdk.files import read_bounded
from vera import archive
from vera.archive import Archive
from vera.errors import ArchiveError
from vera.manifest import CONFIG_FILE, MANIFEST_FILE


def read_adapter(folder: Path) -> Archive:
    """The adapter in `folder`, checked. Raises ArchiveError, which also recognises what is not a VeRA adapter."""
    if not folder.is_dir():
        raise ArchiveError(
            f"There is no folder {folder}: an adapter is a folder that `vera-hub train` or `vera-hub pull` has written.",
            code="FILE_MISSING",
            path=str(folder),
        )
    try:
        return archive.read_folder(folder)
    except ArchiveError as error:
        if error.code == "FILE_MISSING" and not (folder / MANIFEST_FILE).exists():
            _explain_foreign_folder(folder)
        raise


def _explain_foreign_folder(folder: Path) -> None:
    """Raises the better sentence for a folder that PEFT has written, of which there is no manifest."""
    from vera.peft_checkpoint import foreign

    kind = _peft_type(folder)
    if kind is None:
        return
    what = foreign(kind)
    if kind == "VERA":
        what = (
            "a VERA adapter of PEFT, and it has no vera.json, which proves the base and the matrices it was trained with: "
            f"`vera-hub import {folder} OUT --base BASE` makes one"
        )
    raise ArchiveError(f"{folder} is {what}.", code="FORMAT_UNSUPPORTED", path=str(folder), peft_type=kind)


def _peft_type(folder: Path) -> str | None:
    path = folder / CONFIG_FILE
    if path.is_symlink() or not path.is_file():
        return None
    try:
        fields = json.loads(read_bounded(path, archive.MAX_BYTES[CONFIG_FILE]) or b"")
    except (OSError, ValueError, RecursionError):
        return None
    kind = fields.get("peft_type") if isinstance(fields, dict) else None
    return kind[:40] if isinstance(kind, str) else None
