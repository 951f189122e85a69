"""How a process ends that has imported much."""

from __future__ import annotations

import atexit
import gc
from functools import cache


@cache
def end_at_once() -> None:
    """Have this process end without looking for garbage among all that it has imported.

    Python looks for it twice before it ends: half a second of torch and transformers, or of a hub, and everything goes with the
    process anyway. What asks to be done at the end (`atexit`, `weakref.finalize`) is done as ever.
    """
    atexit.register(gc.freeze)
