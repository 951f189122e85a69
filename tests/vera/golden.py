"""The committed golden vectors. A golden file changes only with the version of its format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[1] / "golden"


def load(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def bits_of(values: NDArray[np.float32]) -> list[str]:
    """Float32 values as the eight hex digits of their bits."""
    return [f"{word:08x}" for word in np.ascontiguousarray(values).view(np.uint32).reshape(-1)]
