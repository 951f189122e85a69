"""What a worker signs to prove that a public key is its own: that whoever holds it comes to this hub, by this name, with
this code or token.

    payload type   application/vnd.vera-hub.worker-key+json
    payload        {"hub": "hub.example.org", "key": "sha256:…", "name": "bench", "secret": "sha256:…"}, in its RFC 8785 form

`hub` is the host name in the hub's address as the worker calls it, without a port, which proxies change; `key` the id of the
public key; `secret` the SHA-256 of the code, or of the token. What is signed is the DSSE encoding of both (`vera.signing`),
so that no proof passes for a result. At another hub, by another name or with another secret it proves nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from typing import Any

from vera import canonical_json
from vera.errors import SignatureError
from vera.signing import PublicKey, SigningKey, opened, sealed

PAYLOAD_TYPE = "application/vnd.vera-hub.worker-key+json"
_SHOWN = 120


def proof(key: SigningKey, *, hub: str, name: str, secret: str) -> dict[str, Any]:
    """The envelope with which the holder of `key` comes to `hub` (as `hub_in` spells it), with a code or a token."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    said = _said(key.public, hub=hub, name=name, secret_sha256=digest)
    return sealed(canonical_json.dumps(said), PAYLOAD_TYPE, key)


def check(envelope: Mapping[str, Any], key: PublicKey, *, hubs: Collection[str], name: str, secret_sha256: str) -> None:
    """Raises SignatureError unless `envelope` is this key's proof for one of the names of this hub."""
    found = opened(envelope, PAYLOAD_TYPE, key)
    hub = found.get("hub")
    if hub not in hubs:
        known = " or ".join(sorted(hubs))
        raise _another("hub", known, hub, " (VERA_HUB_PUBLIC_URL says there how it is reached)")
    expected = _said(key, hub=str(hub), name=name, secret_sha256=secret_sha256)
    for field in sorted(expected.keys() | found.keys()):
        if found.get(field) != expected.get(field):
            raise _another(field, expected.get(field), found.get(field))


def hub_in(address: str) -> str:
    """How a proof names the hub at a URL, or the one that a Host header is for."""
    place = (address.partition("://")[2] or address).partition("/")[0].lower()
    return place[1:].partition("]")[0] if place.startswith("[") else place.partition(":")[0]


def _said(key: PublicKey, *, hub: str, name: str, secret_sha256: str) -> dict[str, str]:
    return {"hub": hub, "key": key.id, "name": name, "secret": f"sha256:{secret_sha256}"}


def _another(field: str, ours: object, theirs: object, also: str = "") -> SignatureError:
    return SignatureError(
        f"What the worker has signed is no proof for this request: its {field} is {_short(theirs)}, and {_short(ours)} is "
        f"asked for{also}.",
        code="WORKER_PROOF_INVALID",
        field=field,
        expected=ours,
        got=theirs if isinstance(theirs, str) else None,
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
