"""What holds for every text of a manifest, and how it is said that something does not hold."""

from __future__ import annotations

import re

from vera.errors import ManifestError

MAX_TEXT = 200
# Control characters (C0, C1), line separators and bidirectional overrides: in a terminal or a page
# they would say something else than what is written.
DECEIVING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check_text(where: str, text: str) -> None:
    """Raises ManifestError."""
    require(
        0 < len(text) <= MAX_TEXT and not DECEIVING.search(text),
        f"{where} must have 1 to {MAX_TEXT} characters, none of them a control character",
    )


def require(holds: object, what: str) -> None:
    """Raises ManifestError with `what` unless it holds."""
    if not holds:
        raise ManifestError(f"vera.json is not valid: {what}.")
