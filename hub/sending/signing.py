"""Signatures of webhooks, as https://www.standardwebhooks.com specifies them."""

from __future__ import annotations

import base64
import hmac
import secrets

_PREFIX = "whsec_"


def new_secret() -> str:
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def headers(secret: str, key: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers of a message: which it is (the same at every attempt), when it was sent, and who has sent it."""
    signed = f"{key}.{timestamp}.".encode() + body
    signature = hmac.digest(base64.b64decode(secret.removeprefix(_PREFIX)), signed, "sha256")
    return {
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(signature).decode()}",
        "content-type": "application/json",
        "user-agent": "vera-hub",
    }
