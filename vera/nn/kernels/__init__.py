"""Kernels for GPUs, in Triton. Each has a slower equal in plain torch beside it: nothing here is needed to work.

Triton comes with torch's builds for GPUs, and with no other: a module here is imported only where `can_run_on` says so.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch

MAX_MODULES = 3  # of one group: the kernels take as many pointers
RANK_STEP = 32  # ranks are multiples of it


def can_run_on(device: torch.device) -> bool:
    """Whether the kernels run on `device`: a GPU, with Triton installed."""
    return device.type == "cuda" and _has_triton()


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None
