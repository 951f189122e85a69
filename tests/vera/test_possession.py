"""What a worker signs to prove that a key is its own: fixed bytes, which another program can make."""

from __future__ import annotations

import base64
import hashlib

import pytest

from tests.signing import KEY
from vera import possession
from vera.signing import PublicKey

CODE = "vhr_code"


def test_what_is_signed_is_the_bytes_that_the_documentation_has() -> None:
    envelope = possession.proof(KEY, hub="hub.example.org", name="bench", secret=CODE)

    payload = (
        f'{{"hub":"hub.example.org","key":"{KEY.public.id}","name":"bench",'
        f'"secret":"sha256:{hashlib.sha256(CODE.encode()).hexdigest()}"}}'
    ).encode()
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    encoded = b"DSSEv1 40 application/vnd.vera-hub.worker-key+json %d %s" % (len(payload), payload)
    assert PublicKey(KEY.public.data).has_signed(encoded, signature)


@pytest.mark.parametrize(
    ("address", "named"),
    [
        ("https://Hub.Example.org/", "hub.example.org"),
        ("https://hub.example.org:443", "hub.example.org"),
        ("http://hub:80", "hub"),
        ("http://127.0.0.1:8000", "127.0.0.1"),
        ("hub.example.org", "hub.example.org"),
        ("http://[::1]:8000", "::1"),
    ],
)
def test_a_hub_has_one_name_however_it_is_spelled(address: str, named: str) -> None:
    assert possession.hub_in(address) == named
