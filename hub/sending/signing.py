"""Signatures of webhooks, as https://www.standardwebhooks.com specifies them."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence
from secrets import token_bytes

_PREFIX = "whsec_"


def new_secret() -> str:
    return _PREFIX + base64.b64encode(token_bytes(32)).decode()


def headers(secrets: Sequence[str], key: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message: which it is (the same at every attempt), when it was sent, and who has sent it, by
    each of the secrets that are good."""
    signed = f"{key}.{timestamp}.".encode() + body
    return {
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(_signature(secret, signed) for secret in secrets),
        "content-type": "application/json",
        "user-agent": "vera-hub",
    }


def _signature(secret: str, signed: bytes) -> str:
    digest = hmac.digest(base64.b64decode(secret.removeprefix(_PREFIX)), signed, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"
