"""JSON from strangers: no duplicate keys, no NaN, bounded depth and integers, whole characters.

The standard library accepts all of these, keeps the last of two equal keys, answers deep nesting
with RecursionError, and lets half a surrogate pair through, which no encoder will write again.
"""

from __future__ import annotations

import json
import re
from typing import NoReturn

MAX_DEPTH = 8
_MAX_INTEGER_DIGITS = 19
_BRACKET = re.compile(r"[\[\]{}]")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # characters that are spelled out come in halves
_LONG_INTEGER = re.compile(rf"[0-9]{{{_MAX_INTEGER_DIGITS}}}")  # shorter ones are in bounds


class DuplicateKey(ValueError):
    """An object holds the same key twice."""


def loads(data: bytes, *, max_depth: int = MAX_DEPTH) -> object:
    """The JSON value in `data` (UTF-8, no byte-order mark).

    Raises ValueError with a sentence for anything that is not strictly JSON, DuplicateKey among it.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error
    bare = _outside_strings(text)
    _check_depth(bare, max_depth)
    value = json.loads(
        text,
        object_pairs_hook=_unique_keys,
        parse_constant=_refuse_constant,
        parse_int=_bounded_int if _LONG_INTEGER.search(bare) else None,
        parse_float=_finite,
    )
    if "\\" in text and _SURROGATE.search(text):
        _check_characters(value)
    return value


def dumps(value: object) -> bytes:
    """Compact UTF-8 JSON in the order given. Raises ValueError for NaN and infinities."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # set.add as "remember"
        raise DuplicateKey(f"the key {twice[:80]!r} stands in it twice")
    return unique


def _outside_strings(text: str) -> str:
    """`text` without its strings, one that does not end among them, at the speed of a search.

    Of quotes that are none left, every other ends a string. Where a backslash outside of strings misleads this, it
    does so for what comes after it, which the parser never reads.
    """
    if "\\" in text:
        text = text.replace("\\\\", "").replace('\\"', "")
    return "".join(text.split('"')[::2])


def _check_depth(bare: str, max_depth: int) -> None:
    depth = 0
    for bracket in _BRACKET.findall(bare):
        depth += 1 if bracket in "{[" else -1
        if depth > max_depth:
            raise ValueError(f"it is nested more than {max_depth} deep")


def _check_characters(value: object) -> None:
    try:
        dumps(value)
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a surrogate pair, which is no character") from error


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def _bounded_int(digits: str) -> int:
    if len(digits.lstrip("-")) > _MAX_INTEGER_DIGITS or abs(int(digits)) >= 1 << 63:
        raise ValueError("it holds an integer beyond 2^63 - 1")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{digits[:20]} is too large for a number")
    return value
