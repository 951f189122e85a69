"""Ed25519 keys, and DSSE envelopes that are signed by one (github.com/secure-systems-lab/dsse, version 1).

    {"payloadType": type, "payload": base64, "signatures": [{"keyid": "sha256:…", "sig": base64}]}

What is signed is "DSSEv1", the type and the payload, each with its length before it, so that no signature of one type can
be passed off as one of another. A key is named by the SHA-256 of its 32 bytes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vera import strict_json
from vera.errors import SignatureError

_KEY_BYTES = 32
_MISSING = "Signatures need the package cryptography: pip install 'vera-hub[verify]'."


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 key that signatures are checked with."""

    data: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """The key that `text` spells, as `str` does: base64 of its 32 bytes. Raises SignatureError."""
        try:
            data = base64.b64decode(text.strip(), validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if len(data) != _KEY_BYTES:
            raise SignatureError(
                f"{text.strip()[:60]!r} is no public key: it is the base64 of 32 bytes, as in the file of a worker "
                "that ends in .pub.",
                code="KEY_INVALID",
            )
        return cls(data)

    @property
    def id(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def __str__(self) -> str:
        return base64.b64encode(self.data).decode()

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        invalid_signature, ed25519 = _cryptography()
        try:
            ed25519.Ed25519PublicKey.from_public_bytes(self.data).verify(signature, message)
        except invalid_signature:
            return False
        return True


class SigningKey:
    """An Ed25519 key that signs. It is in no repr."""

    def __init__(self, data: bytes) -> None:
        self._key = _cryptography()[1].Ed25519PrivateKey.from_private_bytes(data)

    @classmethod
    def generate(cls) -> SigningKey:
        return cls(_cryptography()[1].Ed25519PrivateKey.generate().private_bytes_raw())

    @property
    def data(self) -> bytes:
        """The secret itself, 32 bytes."""
        return bytes(self._key.private_bytes_raw())

    @property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        return bytes(self._key.sign(message))


def sealed(payload: bytes, payload_type: str, key: SigningKey) -> dict[str, Any]:
    """The envelope of `payload`, signed by `key`."""
    signature = key.sign(_signed_bytes(payload, payload_type))
    return {
        "payloadType": payload_type,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": key.public.id, "sig": base64.b64encode(signature).decode()}],
    }


def opened(envelope: Mapping[str, Any], payload_type: str, key: PublicKey) -> dict[str, Any]:
    """The JSON object that `key` has signed as a `payload_type`. Raises SignatureError."""
    payload, signatures = _parts(envelope, payload_type)
    if not any(key.has_signed(_signed_bytes(payload, payload_type), each) for each in signatures.get(key.id, ())):
        signers = ", ".join(signatures) or "nobody"
        why = "and the signature does not fit what it stands under" if key.id in signatures else f"but by {signers}"
        raise SignatureError(
            f"The envelope is not signed by the key {key.id}, {why}: it was altered, or is another worker's.",
            code="SIGNATURE_INVALID",
            expected=key.id,
            got=list(signatures),
        )
    try:
        statement = strict_json.loads(payload, max_depth=16)
    except ValueError as error:
        raise _not_an_envelope(f"what is signed is no JSON: {error}") from error
    if not isinstance(statement, dict):
        raise _not_an_envelope("what is signed is no JSON object")
    return statement


def _parts(envelope: Mapping[str, Any], payload_type: str) -> tuple[bytes, dict[str, list[bytes]]]:
    """The payload, and the signatures of each key that is named."""
    if envelope.get("payloadType") != payload_type:
        raise _not_an_envelope(
            f"it holds a {str(envelope.get('payloadType'))[:80]!r}, and {payload_type!r} is asked for"
        )
    signatures: dict[str, list[bytes]] = {}
    try:
        payload = base64.b64decode(envelope["payload"], validate=True)
        for each in envelope["signatures"]:
            signatures.setdefault(str(each["keyid"])[:80], []).append(base64.b64decode(each["sig"], validate=True))
    except (KeyError, TypeError, ValueError) as error:
        raise _not_an_envelope("payload, keyid or sig is missing or is no base64") from error
    return payload, signatures


def _signed_bytes(payload: bytes, payload_type: str) -> bytes:
    """The pre-authentication encoding of DSSE version 1."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _not_an_envelope(why: str) -> SignatureError:
    return SignatureError(f"That is no signed envelope (DSSE): {why}.", code="ENVELOPE_INVALID")


def _cryptography() -> tuple[type[Exception], Any]:
    """Imported where it is used: most of what runs signs and checks nothing."""
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise SignatureError(_MISSING, code="SIGNATURES_UNAVAILABLE") from error
    return InvalidSignature, ed25519


def dumps(envelope: Mapping[str, Any]) -> str:
    """An envelope as a file holds it."""
    return json.dumps(envelope, indent=2) + "\n"
