"""What every test shares: how hypothesis behaves."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The machine may be busy: nothing here is decided by a clock.
settings.register_profile("suite", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
