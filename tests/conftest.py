"""What every test shares: how hypothesis behaves, and one thread a process."""

from __future__ import annotations

import os

# Test processes share the cores. And with two threads even a bare base gives a row other last bits in a batch than
# alone, so nothing could be compared to the bit. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

# The machine may be busy: nothing here is decided by a clock.
settings.register_profile("suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
