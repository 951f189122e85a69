"""How much memory there is for a base: what the hub goes by when it gives out jobs."""

from __future__ import annotations

import os
import subprocess

_NVIDIA = ("nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits")
_MIB = 1 << 20
_TIMEOUT_S = 20


def available() -> int | None:
    """Bytes of the GPU that is used, or of this machine where there is none; None where nobody says."""
    return _of_gpu() or _of_machine()


def _of_gpu() -> int | None:
    """Of the smallest that is visible: asked of the driver, since this process has no torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible == "":
        return None
    chosen = ["-i", visible] if visible else []
    try:
        said = subprocess.run(
            [*_NVIDIA, *chosen], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        ).stdout
        return min(int(line) * _MIB for line in said.split())
    except (OSError, subprocess.SubprocessError, ValueError):
        return None


def _of_machine() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
