"""A process that has imported much ends without looking through it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import atexit, gc, weakref
from vera.ending import end_at_once
end_at_once()
class Ring:
    def __init__(self):
        self.ring = self
    def __del__(self):
        print("looked for garbage")
ring = Ring()
class Kept: ...
kept = Kept()
weakref.finalize(kept, print, "finalized")
atexit.register(print, "at exit")
del ring
gc.disable()
"""


def test_what_is_asked_for_at_the_end_is_done_and_garbage_is_not_looked_for() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:-1] == ["at exit", "finalized"]
