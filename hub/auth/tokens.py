"""Tokens: `vh<kind>_`, 40 random base62 digits, and 6 that are a CRC-32 of all before.

238 random bits, so a plain SHA-256 keeps them safe at rest. The checksum lets garbage be refused, and
a leaked token be found by a scanner, without asking the database; it protects nothing.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from enum import StrEnum

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_RANDOM_DIGITS = 40
_TOKEN = re.compile(r"vh[pcwbs]_[0-9A-Za-z]{46}")
# Whatever stands beside it: in a line of JSON that may be the n of a \\n.
_ANYWHERE = re.compile(r"vh[pcwrsb]_[0-9A-Za-z]{46}")


class TokenKind(StrEnum):
    PERSONAL = "p"
    CI = "c"
    WORKER = "w"
    SESSION = "s"
    BOOTSTRAP = "b"


# No token: what a worker changes into one, once.
WORKER_CODE = "r"


def mint(kind: str) -> str:
    """A new token of a TokenKind, or a code for a worker. Only its hash is to be kept."""
    head = f"vh{kind}_" + "".join(secrets.choice(_BASE62) for _ in range(_RANDOM_DIGITS))
    return head + _checksum(head)


def is_well_formed(text: str) -> bool:
    """True for what `mint` could have made."""
    return bool(_TOKEN.fullmatch(text)) and secrets.compare_digest(text[-6:], _checksum(text[:-6]))


def hash_of(token: str) -> bytes:
    """What is stored in place of the token."""
    return hashlib.sha256(token.encode()).digest()


def is_in(text: str) -> bool:
    """True when something like a token stands anywhere in `text`."""
    return bool(_ANYWHERE.search(text))


def redact(text: str) -> str:
    """`text` with every token in it cut down to its kind."""
    return _ANYWHERE.sub(lambda match: f"{match[0][:4]}…", text)


def _checksum(head: str) -> str:
    number, digits = zlib.crc32(head.encode()), ""
    for _ in range(6):  # 62^6 > 2^32
        number, digit = divmod(number, 62)
        digits = _BASE62[digit] + digits
    return digits
