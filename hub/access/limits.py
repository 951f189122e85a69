"""How often somebody may do something. The counts are this process's own, and gone when it ends."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock

from fastapi import Request

from hub.auth.policy import Action
from hub.errors import TooMany

_MAX_KEYS = 10_000


class Failures:
    """Lets somebody fail `most` times in `within_s` seconds, and then makes them wait."""

    def __init__(self, most: int = 10, within_s: float = 300, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._within_s, self._clock = most, within_s, clock
        self._times: dict[str, deque[float]] = {}
        self._lock = Lock()

    def check(self, key: str) -> None:
        """Raises TooMany when `key` has failed too often lately."""
        with self._lock:
            times = self._recent(key)
            if times is None or len(times) < self._most:
                return
            wait_s = math.ceil(times[0] + self._within_s - self._clock())
        raise TooMany(
            f"That went wrong {self._most} times: wait {wait_s} seconds.", code="RATE_LIMITED", retry_after_s=wait_s
        )

    def note(self, key: str) -> None:
        """Remembers that `key` has failed now."""
        with self._lock:
            if len(self._times) >= _MAX_KEYS:  # whoever has as many addresses is not held by this
                self._times.clear()
            self._times.setdefault(key, deque(maxlen=self._most)).append(self._clock())

    def _recent(self, key: str) -> deque[float] | None:
        times = self._times.get(key)
        while times and times[0] <= self._clock() - self._within_s:
            times.popleft()
        return times


def address_of(request: Request, trusted_proxies: tuple[str, ...]) -> str:
    """Where a request comes from: the last address in X-Forwarded-For that no proxy of ours added for another."""
    address = request.client.host if request.client else ""
    forwarded = [each.strip() for each in request.headers.get("x-forwarded-for", "").split(",") if each.strip()]
    while address in trusted_proxies and forwarded:
        address = forwarded.pop()
    return address


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
    """A token bucket for each rate and whoever it is asked for. They fill while nobody looks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._levels: dict[tuple[str, str], tuple[float, float]] = {}
        self._lock = Lock()

    def take(self, rate: Rate, key: str) -> tuple[Allowance, bool]:
        """What is left after this one, and whether there was one to take."""
        per_s, now = rate.burst / rate.window_s, self._clock()
        with self._lock:
            if len(self._levels) >= _MAX_KEYS:
                self._levels.clear()
            level, then = self._levels.get((rate.name, key), (float(rate.burst), now))
            level = min(float(rate.burst), level + (now - then) * per_s)
            is_let_in = level >= 1
            level -= is_let_in
            self._levels[rate.name, key] = level, now
        wanted = rate.burst - level if is_let_in else 1 - level
        return Allowance(rate, int(level), max(1, math.ceil(wanted / per_s))), is_let_in


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
