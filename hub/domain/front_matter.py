"""The block of YAML at the top of a card, which is for machines."""

from __future__ import annotations

import re
from typing import Any

from hub.errors import Malformed

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)^---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
# A parser in Python takes about a second per megabyte.
_MAX_BYTES = 16 * 1024


def front_matter(card: str) -> dict[str, Any]:
    """What the block says; nothing where there is none. Raises Malformed for a block that cannot be read."""
    block = _FRONT_MATTER.match(card)
    if block is None:
        return {}
    if len(block[1]) > _MAX_BYTES:
        raise _unreadable(f"it is longer than {_MAX_BYTES:,} characters")
    from hub.domain import plain_yaml  # a megabyte that an idle hub does without

    try:
        found = plain_yaml.load(block[1])
    except (plain_yaml.YAMLError, ValueError, RecursionError) as error:
        raise _unreadable(" ".join(str(error).split())[:300]) from error
    if not isinstance(found, dict | None):
        raise _unreadable("it is no mapping of names to values")
    return {str(key): _plain(value) for key, value in (found or {}).items()}


def front_matter_or_nothing(card: str) -> dict[str, Any]:
    """`front_matter` of a card that is published already, however it is."""
    try:
        return front_matter(card)
    except Malformed:
        return {}


def _plain(value: Any) -> Any:
    """`value` as JSON has it: dates, sets and bytes as text."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | None) else str(value)


def _unreadable(why: str) -> Malformed:
    return Malformed(
        f"The block between the two lines --- of the card is not YAML that can be read: {why}.", code="CARD_INVALID"
    )
