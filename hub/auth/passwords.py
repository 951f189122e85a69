"""Passwords, for those who sign in with one: argon2id, and as much work for a name that is not there."""

from __future__ import annotations

import threading
from functools import cache

import argon2

from hub.errors import Invalid

MIN_CHARACTERS, MAX_CHARACTERS = 10, 200
# Each takes 64 MiB and all processors for a moment: two at once leave the hub its breath.
_places = threading.BoundedSemaphore(2)
_hasher = argon2.PasswordHasher()


def hash_of(password: str) -> str:
    """What is stored in place of the password. Raises Invalid for one that is too short or too long."""
    if not MIN_CHARACTERS <= len(password) <= MAX_CHARACTERS:
        raise Invalid(
            f"A password has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters: choose another.", code="PASSWORD_INVALID"
        )
    with _places:
        return _hasher.hash(password)


def is_right(stored: str | None, password: str) -> bool:
    """True when `stored` was made from `password`. Takes as long when there is none."""
    with _places:
        try:
            _hasher.verify(stored or _nobodys(), password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    return stored is not None


@cache
def _nobodys() -> str:
    return _hasher.hash("nobody has this password")
