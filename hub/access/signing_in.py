"""Signing in with a password: slow on purpose, so nothing of the database is held meanwhile."""

from __future__ import annotations

from fastapi import Request

from hub.access.limits import visitor_at
from hub.access.services import Services
from hub.auth import passwords
from hub.domain import users


def check_password(parts: Services, request: Request, user: str, password: str) -> None:
    """Returns when it is the user's password. Raises Unauthorized, and TooMany for who was wrong too often."""
    address = visitor_at(request, parts.settings.trusted_proxies)
    parts.wrong_sign_ins.begin(address)
    with parts.database.reading() as session:
        stored = users.password_hash_of(session, user)
    if not passwords.is_right(stored, password):
        raise users.wrong_password()
    parts.wrong_sign_ins.take_back(address)
