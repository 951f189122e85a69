"""How much is left to somebody is said so that huggingface_hub can read it, and wait as long."""

from __future__ import annotations

import pytest
from huggingface_hub.utils import parse_ratelimit_headers

from hub.access.limits import ANONYMOUS, DEVICE_POLLS, RATES, Allowance, Rate


@pytest.mark.parametrize("rate", [*RATES.values(), ANONYMOUS, DEVICE_POLLS], ids=lambda rate: rate.name)
def test_their_client_reads_what_is_left_of_every_rate(rate: Rate) -> None:
    found = parse_ratelimit_headers(Allowance(rate, left=3, full_in_s=7).headers)
    assert found is not None
    assert (found.resource_type, found.remaining, found.reset_in_seconds) == (rate.name, 3, 7)
    assert (found.limit, found.window_seconds) == (rate.burst, rate.window_s)
