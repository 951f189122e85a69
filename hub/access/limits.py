"""How often somebody may do something. The counts are this process's own, and gone when it ends."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network, ip_address
from threading import Lock
from typing import TypeVar

from fastapi import Request

from hub.auth.policy import Action
from hub.errors import TooMany

Key = TypeVar("Key")
Value = TypeVar("Value")
_MAX_KEYS = 10_000
# Of sums of seconds and parts of a request.
_ROUNDING = 1e-6


class Failures:
    """Lets somebody fail `most` times in `within_s` seconds, and then makes them wait."""

    def __init__(self, most: int = 10, within_s: float = 300, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._within_s, self._clock = most, within_s, clock
        self._times: dict[str, deque[float]] = {}
        self._lock = Lock()

    def check(self, key: str) -> None:
        """Raises TooMany when `key` has failed too often lately."""
        with self._lock:
            self._require_few(key)

    def begin(self, key: str) -> None:
        """`check`, and counts this try as one that failed, until `take_back`: of many at once no more are let in than one
        after another. For what takes its time to find out."""
        with self._lock:
            self._require_few(key)
            self._add(key)

    def take_back(self, key: str) -> None:
        """A try that `begin` has counted did not fail."""
        with self._lock:
            if times := self._times.get(key):
                times.pop()

    def note(self, key: str) -> None:
        """Remembers that `key` has failed now."""
        with self._lock:
            self._add(key)

    def _add(self, key: str) -> None:
        if key not in self._times and len(self._times) >= _MAX_KEYS:
            _keep_last_half(self._times, lambda times: times[-1] if times else 0.0)
        self._times.setdefault(key, deque(maxlen=self._most)).append(self._clock())

    def _require_few(self, key: str) -> None:
        times = self._recent(key)
        if times is None or len(times) < self._most:
            return
        wait_s = math.ceil(times[0] + self._within_s - self._clock())
        raise TooMany(
            f"That went wrong {self._most} times: wait {wait_s} seconds.", code="RATE_LIMITED", retry_after_s=wait_s
        )

    def _recent(self, key: str) -> deque[float] | None:
        times = self._times.get(key)
        while times and times[0] <= self._clock() - self._within_s:
            times.popleft()
        if times is not None and not times:
            del self._times[key]
        return times or None


def address_of(request: Request, trusted_proxies: tuple[str, ...]) -> str:
    """Where a request comes from: the last address in X-Forwarded-For that no proxy of ours added for another."""
    address = request.client.host if request.client else ""
    lines = ",".join(request.headers.getlist("x-forwarded-for"))  # some proxies add a line of their own
    forwarded = [each.strip() for each in lines.split(",") if each.strip()]
    while address in trusted_proxies and forwarded:
        address = forwarded.pop()
    return address


def visitor_at(request: Request, trusted_proxies: tuple[str, ...]) -> str:
    """Who is counted for a request: its address, and of IPv6 the /64 around it, all of which are one subscriber's."""
    text = address_of(request, trusted_proxies)
    try:
        address = ip_address(text)
    except ValueError:
        return text
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Network((address, 64), strict=False))
    return text


@dataclass(frozen=True)
class Rate:
    """`burst` at once, and then as many in every `window_s` seconds."""

    name: str
    burst: int
    window_s: int


# What the defaults are for: a person and their programs never meet them, a loop does.
RATES: Mapping[Action, Rate] = {
    Action.PUSH: Rate("push", 60, 60),
    Action.MANAGE_TOKENS: Rate("tokens", 30, 3600),
    Action.CREATE_ORGANISATION: Rate("organisations", 20, 3600),
}
ANONYMOUS = Rate("anonymous", 200, 3)
# Counted when they are made, and not when they are asked for: only the domain knows whether there was one before.
NEW_ADAPTERS = Rate("adapters", 20, 3600)
# Tables of tensors, which may have megabytes and stay for ever: a known one counts for nobody.
NEW_BASES = Rate("bases", 60, 3600)
# Of one suite: whoever may have every try scored chooses among them by the answers they are scored on.
EVALUATIONS = Rate("evaluations", 5, 24 * 3600)
# Of a program that waits to be let in: counted for each, whatever the settings.
DEVICE_POLLS = Rate("polls", 5, 10)


@dataclass(frozen=True)
class Allowance:
    """What is left to somebody of a rate, for the headers of the answer (draft-ietf-httpapi-ratelimit-headers)."""

    rate: Rate
    left: int
    full_in_s: int

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Policy": f'"{self.rate.name}";q={self.rate.burst};w={self.rate.window_s}',
            "RateLimit": f'"{self.rate.name}";r={self.left};t={self.full_in_s}',
        }


class Buckets:
    """A token bucket for each rate and whoever it is asked for. They fill while nobody looks.

    Of more than there is room for, those are forgotten that are full soonest: who takes one of each of many brings
    nobody's empty one to be full.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # When each will be full again.
        self._full_at: dict[tuple[str, str], float] = {}
        self._lock = Lock()

    def take(self, rate: Rate, key: str) -> tuple[Allowance, bool]:
        """What is left after this one, and whether there was one to take."""
        per_s, now = rate.burst / rate.window_s, self._clock()
        with self._lock:
            if (rate.name, key) not in self._full_at and len(self._full_at) >= _MAX_KEYS:
                _keep_last_half(self._full_at, lambda full_at: full_at)
            missing = max(0.0, self._full_at.get((rate.name, key), now) - now) * per_s
            is_let_in = missing <= rate.burst - 1 + _ROUNDING
            missing += is_let_in
            self._full_at[rate.name, key] = now + missing / per_s
        wanted = missing if is_let_in else missing - rate.burst + 1
        left = int(rate.burst - missing + _ROUNDING)
        return Allowance(rate, left, max(1, math.ceil(wanted / per_s - _ROUNDING))), is_let_in


def _keep_last_half(entries: dict[Key, Value], by: Callable[[Value], float]) -> None:
    """Forgets the half of the entries that come first by their values."""
    for key in sorted(entries, key=lambda key: by(entries[key]))[: len(entries) // 2]:
        del entries[key]


def count(request: Request, buckets: Buckets, rate: Rate, key: str) -> None:
    """Takes one of what `key` has left of the rate, which the answer's headers then say. Raises TooMany when there is
    none; inside a transaction, that undoes what was counted."""
    allowance, is_let_in = buckets.take(rate, key)
    request.state.allowance = allowance
    if not is_let_in:
        raise TooMany(
            f"That is more {rate.name} than {rate.burst} in {rate.window_s} seconds: wait {allowance.full_in_s} s.",
            retry_after_s=allowance.full_in_s,
        )
