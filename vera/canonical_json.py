"""RFC 8785: one value, one byte string.

`rfc8785` writes everything there is, in Python. What has neither a number with a fraction nor a key beyond the
basic plane is written by the standard library instead, forty times as fast and in the same bytes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import rfc8785

Impossible = rfc8785.CanonicalizationError
_INT_MAX = 2**53 - 1  # what every reader of JSON holds exactly


def dumps(value: Any) -> bytes:
    """The canonical JSON of `value`. Raises `Impossible`, a ValueError, for what has none: NaN, integers beyond
    2^53 - 1, half of a surrogate pair, what is no JSON."""
    if _is_plain(value):
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
        with suppress(UnicodeEncodeError):
            return text.encode()
    return rfc8785.dumps(value)


def _is_plain(value: object) -> bool:
    """Whether the standard library writes `value` as RFC 8785 has it. Subclasses may write themselves otherwise."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return -_INT_MAX <= value <= _INT_MAX  # type: ignore[operator]  # it is an int
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))  # type: ignore[call-overload]  # it is a list
    return kind is dict and _has_plain_items(value)  # type: ignore[arg-type]  # it is one


def _has_plain_items(value: dict[object, object]) -> bool:
    for key, item in value.items():  # noqa: SIM110  # a third faster than all() of a generator
        # Keys are sorted by their UTF-16 words there and by their characters here, which is the same in ASCII.
        if type(key) is not str or not key.isascii() or not _is_plain(item):
            return False
    return True
