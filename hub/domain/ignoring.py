"""What a `.gitignore` leaves out (https://git-scm.com/docs/gitignore), as far as one at the root says it."""

from __future__ import annotations

import re

IGNORE_FILE = ".gitignore"
MAX_RULES = 64 * 1024
_MAX_LINES = 500


class Ignored:
    """Whether a path is left out: by the last rule that is about it or about a folder that it is in."""

    def __init__(self, text: str) -> None:
        lines = (line.rstrip() for line in text.splitlines()[:_MAX_LINES])
        self._rules = [_rule(line) for line in lines if line and not line.startswith("#")]

    def __call__(self, path: str) -> bool:
        parts = path.split("/")
        folders = ("/".join(parts[:depth]) + "/" for depth in range(1, len(parts)))
        return any(self._is_named(place) for place in (*folders, path))

    def _is_named(self, place: str) -> bool:
        said = [is_out for rule, is_out in self._rules if rule.fullmatch(place)]
        return bool(said) and said[-1]


def _rule(line: str) -> tuple[re.Pattern[str], bool]:
    """The places that a line is about, folders with a slash at their end, and whether it leaves them out."""
    is_out = not line.startswith("!")
    wanted = line.removeprefix("!")
    end = "/" if wanted.endswith("/") else "/?"
    inner = wanted.strip("/")
    start = "" if "/" in wanted.rstrip("/") else "(?:.*/)?"
    return re.compile(start + "".join(map(_pattern, re.findall(r"\*\*/|\*+|.", inner))) + end), is_out


def _pattern(sign: str) -> str:
    if sign == "**/":
        return "(?:.*/)?"
    if sign.startswith("**"):
        return ".*"
    return {"*": "[^/]*", "?": "[^/]"}.get(sign, re.escape(sign))
