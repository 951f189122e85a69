"""Where a training stands, on disk: a run that was killed goes on from there and ends with the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vera import canonical_json
from vera.errors import VeraError

EVERY_S = 30.0
_FILE = "checkpoint.pt"


class Checkpoints:
    """The checkpoint of one training, in a folder of its own.

    `key` says which training: where another one's checkpoint stands, it counts as none and is
    written over.
    """

    def __init__(self, folder: Path, key: str, *, every_s: float = EVERY_S) -> None:
        self.folder, self.key, self.every_s = folder, key, every_s
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        return time.monotonic() - self._saved_at >= self.every_s

    def load(self) -> dict[str, Any] | None:
        """What was saved last by this training, on the CPU; None when there is nothing.

        Read without running any code that the file may hold. Raises VeraError (CHECKPOINT_UNREADABLE).
        """
        path = self.folder / _FILE
        if not path.is_file():
            return None
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises whatever its reader meets
            raise VeraError(
                f"{path} cannot be read ({type(error).__name__}): remove {self.folder} to start again.",
                code="CHECKPOINT_UNREADABLE",
                path=str(path),
            ) from error
        return state if state.get("key") == self.key else None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace what was saved, at once: a kill leaves the old or the new. Raises VeraError (CHECKPOINT_UNWRITABLE)."""
        fresh = self.folder / f"{_FILE}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save({**state, "key": self.key}, fresh)
            fresh.replace(self.folder / _FILE)
        except (OSError, RuntimeError) as error:  # torch's writer says RuntimeError of a full disk
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise VeraError(
                f"No checkpoint can be written to {self.folder} ({error}): make room there. The same training goes on from the "
                "last one that was.",
                code="CHECKPOINT_UNWRITABLE",
                path=str(self.folder),
            ) from error
        self._saved_at = time.monotonic()

    def clear(self) -> None:
        """Forget it, and the folder with it: the training is done and written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def age_s(folder: Path) -> float | None:
    """How long ago the checkpoint in `folder` was saved, None where there is none."""
    path = folder / _FILE
    return time.time() - path.stat().st_mtime if path.is_file() else None


def key_of(parts: Mapping[str, Any]) -> str:
    """The key of the training that `parts` (JSON values) decide."""
    return hashlib.sha256(canonical_json.dumps(dict(parts))).hexdigest()
