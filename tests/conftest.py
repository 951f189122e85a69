"""What every test shares: how hypothesis behaves, one thread a process, and seldom a garbage collector."""

from __future__ import annotations

import gc
import os

# Test processes share the cores. And with two threads even a bare base gives a row other last bits in a batch than
# alone, so nothing could be compared to the bit. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# The machine may be busy: nothing here is decided by a clock.
settings.register_profile("suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

# Nothing that is imported or collected is garbage, and there is much of it: see `pytest_collection_finish`.
gc.disable()


def pytest_collection_finish() -> None:
    """Modules and tests live as long as the process: a million objects that the collector would go through again and
    again. With as many, what a request leaves behind is looked at less often than the default of 700 objects."""
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
    gc.enable()
