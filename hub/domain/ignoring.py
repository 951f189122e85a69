"""What a `.gitignore` leaves out (https://git-scm.com/docs/gitignore), as far as one at the root says it."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

IGNORE_FILE = ".gitignore"
MAX_RULES = 64 * 1024
# Each rule is held against each file and each folder.
_MAX_LINES, _MAX_LINE = 100, 255


class Ignored:
    """Whether a path is left out: by the last rule that is about it or about a folder that it is in."""

    def __init__(self, text: str) -> None:
        lines = (line.rstrip() for line in text.splitlines() if len(line) <= _MAX_LINE)
        said = [line for line in lines if line.strip("/!") and not line.startswith("#")]
        self._rules = [_rule(line) for line in said[:_MAX_LINES]]
        self._is_folder_out = cache(lambda parts: self._is_named(parts, is_folder=True))

    def __call__(self, path: str) -> bool:
        parts = tuple(path.split("/"))
        folders = (parts[:depth] for depth in range(1, len(parts)))
        return any(map(self._is_folder_out, folders)) or self._is_named(parts, is_folder=False)

    def _is_named(self, parts: tuple[str, ...], *, is_folder: bool) -> bool:
        about = (rule for rule in reversed(self._rules) if (is_folder or not rule.is_of_folders) and rule.names(parts))
        last = next(about, None)
        return last is not None and last.is_out


@dataclass(frozen=True)
class _Rule:
    """`patterns` are of one name each; None is any number of names."""

    patterns: Sequence[re.Pattern[str] | None]
    is_out: bool
    is_of_folders: bool

    def names(self, parts: tuple[str, ...]) -> bool:
        """True for the path of these names. Takes time in proportion to both, whatever the patterns are."""
        reached = {0}
        for pattern in self.patterns:
            if pattern is None:
                reached = set(range(min(reached), len(parts) + 1))
            else:
                reached = {at + 1 for at in reached if at < len(parts) and pattern.fullmatch(parts[at])}
            if not reached:
                return False
        return len(parts) in reached


def _rule(line: str) -> _Rule:
    is_out, wanted = not line.startswith("!"), line.removeprefix("!")
    inner = wanted.rstrip("/")
    names = ["**", inner] if "/" not in inner else inner.strip("/").split("/")
    patterns = [None if name == "**" else re.compile(fnmatch.translate(name)) for name in names]
    return _Rule(patterns, is_out, wanted.endswith("/"))
