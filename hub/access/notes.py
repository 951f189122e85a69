"""What base models are at a commit, and which commit a branch was, as their hub has last told: notes on a shelf.

Whoever asks for a commit or a branch that is there has one written, so there is a most of them: the oldest make way,
and what is asked for again is asked of that hub again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from hub.domain.relayed import is_commit

if TYPE_CHECKING:
    from hub.storage.shelf import Shelf

MOST_NOTES = 1000
MAX_NOTES_BYTES = 256 << 20
_FOLDER = "models"


class Notes:
    """The notes on a shelf, `most` of them with at most `max_bytes` together."""

    def __init__(self, shelf: Shelf, *, most: int = MOST_NOTES, max_bytes: int = MAX_NOTES_BYTES) -> None:
        self._shelf, self._most, self._max_bytes = shelf, most, max_bytes

    def read(self, name: str, revision: str) -> bytes | None:
        return self._shelf.read(_key_of(name, revision))

    def keep(self, name: str, revision: str, data: bytes) -> None:
        """Keeps the note, and of the others as many as there is room for, the newest."""
        key = _key_of(name, revision)
        self._shelf.put(key, data)
        others = (each for each in self._shelf.all_below(_FOLDER) if each.name != key)
        oldest = sorted(others, key=lambda each: each.modified_at)
        number, size_bytes = len(oldest) + 1, sum(each.size_bytes for each in oldest) + len(data)
        for each in oldest:
            if number <= self._most and size_bytes <= self._max_bytes:
                return
            self._shelf.remove(each.name)
            number, size_bytes = number - 1, size_bytes - each.size_bytes


def _key_of(name: str, revision: str) -> str:
    """Names differ in more than capitals."""
    ending = "json" if is_commit(revision) else "txt"
    return f"{_FOLDER}/{quote(name.lower(), safe='')}/{quote(revision, safe='')[:300]}.{ending}"
