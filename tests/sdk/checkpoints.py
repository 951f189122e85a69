"""Checkpoints of one tensor, for tests of where a base lies and which one it is."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vera import tensorfile


def write_checkpoint(folder: Path, value: float = 1.0) -> Path:
    """A base of one tensor, whose file has stood there for a minute."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    path.write_bytes(tensorfile.serialize({"w": np.full((4, 4), value, "<f4")}, "F32"))
    settled_s = path.stat().st_mtime - 60
    os.utime(path, (settled_s, settled_s + value))
    return folder
