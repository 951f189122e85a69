"""Requests that are done once: what carries an `Idempotency-Key` and comes again gets the answer of the first time.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/. The answer is kept in the transaction of
the change, so that there is one exactly where something was changed. What was refused has changed nothing and leaves
none: the key may be tried again.

An answer may hold a secret that is shown once. It is kept sealed under what only the client has, its token and its
key; of both the database has hashes.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Header, Request
from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db import session as db
from hub.db.queries import kept_answers
from hub.errors import Invalid, Malformed

# cryptography is nine megabytes that a hub to which nobody has sent a key never needs: it is imported where it is used.

HEADER = "Idempotency-Key"
# A string of RFC 9651, or the same without its quotes, as many clients send it.
_KEY = re.compile(r'"([\x21\x23-\x5b\x5d-\x7e]{1,200})"|([A-Za-z0-9._:-]{1,200})')
_NONCE_BYTES = 12
_CONDITIONS = ("if-match", "if-none-match")

IdempotencyKey = Annotated[
    str | None,
    Header(
        description='A string of your choice for this one request, as in `"5e1c…"`: '
        "sent again within 24 hours it gets the first answer again."
    ),
]


@dataclass(frozen=True)
class Given:
    """An answer as it was given."""

    status: int
    etag: str | None = None
    body: bytes = b""


class GivenBefore(Exception):
    """Not an error: the request was done already, and this was the answer."""

    def __init__(self, answer: Given) -> None:
        super().__init__(answer.status)
        self.answer = answer


def note(request: Request, answer: Given) -> None:
    """Says what the request is answered with, before the transaction ends."""
    request.state.given = answer


@contextmanager
def done_once(request: Request, session: Session, header: str | None) -> Iterator[None]:
    """The work of the block, whose answer is kept with it in the session under the key that `header` is, if it is one.

    Raises GivenBefore in the place of doing it again, Invalid when the key was another request's, and Malformed. Who
    comes while the first is still at work waits for it. A request without a token is done as if it had no key.
    """
    principal: Principal | None = getattr(request.state, "principal", None)
    secret = request.headers.get("authorization")
    if header is None or principal is None or secret is None:
        yield
        return
    key = _key_in(header)
    signed_with = _signing_key(session)
    name = hmac.digest(signed_with, f"key\n{key}".encode(), "sha256").hex()
    fingerprint, asked = _fingerprint(signed_with, request), f"{request.method} {request.url.path}"[:300]
    at = db.now(session)
    kept_answers.forget_of(session, principal.token_id, at - kept_answers.KEPT)
    if not kept_answers.claim(session, principal.token_id, name, fingerprint=fingerprint, asked=asked, at=at):
        raise _of_before(
            session, principal.token_id, name, fingerprint=fingerprint, asked=asked, sealed_by=(secret, key)
        )
    yield
    answer = _answer_to(request)
    if answer is None:
        kept_answers.forget(session, principal.token_id, name)
        return
    sealed = _seal(answer.body, (secret, key), name)
    kept_answers.keep(session, principal.token_id, name, status=answer.status, etag=answer.etag, sealed=sealed)


def _key_in(header: str) -> str:
    found = _KEY.fullmatch(header.strip())
    if found is None:
        raise Malformed(
            f'{HEADER} must be a string of 1 to 200 printable characters, as in "5e1c0f3a": send another one.',
            code="HEADER_INVALID",
        )
    return found[1] or found[2]


def _signing_key(session: Session) -> bytes:
    key = session.info["signing_key"]
    assert isinstance(key, bytes)
    return hmac.digest(key, b"kept answers", "sha256")


def _fingerprint(signed_with: bytes, request: Request) -> str:
    """What of a request decides what it does, as a hash that tells nothing of it: a body may hold a password."""
    conditions = "\n".join(request.headers.get(each, "") for each in _CONDITIONS)
    sent: str = getattr(request.state, "sent", "")
    asked = f"{request.method}\n{request.url.path}\n{request.url.query}\n{conditions}\n{sent}"
    return hmac.digest(signed_with, asked.encode(), "sha256").hex()


def _of_before(
    session: Session, token_id: int, name: str, *, fingerprint: str, asked: str, sealed_by: tuple[str, str]
) -> Exception:
    first = kept_answers.find(session, token_id, name)
    if not hmac.compare_digest(first.fingerprint, fingerprint):
        return Invalid(
            f"This {HEADER} was sent with another request before ({first.asked}): make a new key for each request.",
            code="IDEMPOTENCY_KEY_REUSED",
            expected={"request": first.asked, "fingerprint": first.fingerprint[:16]},
            got={"request": asked, "fingerprint": fingerprint[:16]},
        )
    return GivenBefore(Given(first.status, first.etag, _unseal(first.sealed, sealed_by, name)))


def _answer_to(request: Request) -> Given | None:
    """What the route has said it answers, or that it answers nothing, as its declaration says; None for neither."""
    given: Given | None = getattr(request.state, "given", None)
    if given is None and getattr(request.scope.get("route"), "status_code", None) == 204:
        return Given(204)
    return given


def _seal(body: bytes, sealed_by: tuple[str, str], name: str) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(_key_of(sealed_by)).encrypt(nonce, body, name.encode())


def _unseal(sealed: bytes, sealed_by: tuple[str, str], name: str) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(_key_of(sealed_by)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())


def _key_of(sealed_by: tuple[str, str]) -> bytes:
    secret, key = sealed_by
    return hmac.digest(hashlib.sha256(secret.encode()).digest(), f"answer\n{key}".encode(), "sha256")
