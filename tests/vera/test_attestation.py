"""What a worker signs, and who can tell. The key and the signature of the first test are RFC 8032's (7.1, test 3)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from vera import attestation, signing
from vera.attestation import Evaluated
from vera.errors import SignatureError
from vera.signing import PublicKey, SigningKey

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))
RESULT = Evaluated(
    job="7",
    fence=2,
    ref="acme/topics@v3",
    version_digest="sha256:" + "a" * 64,
    weights_digest="sha256:" + "b" * 64,
    spec={"suite": "demo/topics", "suite_digest": "sha256:" + "c" * 64, "base": "vbf1:" + "d" * 64},
    spec_digest="sha256:" + "e" * 64,
    outcomes={"accuracy": [1, 0]},
    scores={"accuracy": 0.5},
    outputs=["cat", "dog"],
    environment={"device": "cpu", "threads": 1},
    seconds=1.5,
)


def test_a_key_signs_as_the_standard_says() -> None:
    key = SigningKey(bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7"))

    assert key.public.data.hex() == "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025"
    assert key.sign(bytes.fromhex("af82")).hex() == (
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
    )


def test_what_is_signed_is_the_encoding_of_dsse() -> None:
    """The example of the protocol's page: http://example.com/HelloWorld, "hello world"."""
    envelope = signing.sealed(b"hello world", "http://example.com/HelloWorld", KEY)
    signature = base64.b64decode(envelope["signatures"][0]["sig"])

    assert KEY.public.has_signed(b"DSSEv1 29 http://example.com/HelloWorld 11 hello world", signature)


def test_a_key_is_what_it_spells() -> None:
    assert PublicKey.parse(f"{KEY.public}\n") == KEY.public
    assert KEY.public.id.startswith("sha256:")
    assert repr(KEY).count(KEY.data.hex()) == 0


@pytest.mark.parametrize("text", ["", "AAAA", "not base64 !", base64.b64encode(bytes(33)).decode()])
def test_what_spells_no_key_is_refused(text: str) -> None:
    with pytest.raises(SignatureError) as refused:
        PublicKey.parse(text)

    assert refused.value.code == "KEY_INVALID"


def test_a_statement_says_what_was_evaluated_and_how() -> None:
    statement = attestation.check(attestation.signed(RESULT, KEY), KEY.public)

    assert [each["name"] for each in statement["subject"]] == ["vera.json", "adapter_model.safetensors"]
    assert [each["digest"]["sha256"][0] for each in statement["subject"]] == ["a", "b"]
    predicate = statement["predicate"]
    assert (predicate["job"], predicate["fence"], predicate["scores"]) == ("7", 2, {"accuracy": 0.5})
    assert predicate["spec"]["base"] == RESULT.spec["base"]
    assert predicate["environment"] == RESULT.environment
    attestation.check_says(statement, RESULT)


def _payload_changed(envelope: dict[str, Any]) -> None:
    statement = json.loads(base64.b64decode(envelope["payload"]))
    statement["predicate"]["scores"]["accuracy"] = 1.0
    envelope["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()


def _signature_changed(envelope: dict[str, Any]) -> None:
    envelope["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()


def _of_another_type(envelope: dict[str, Any]) -> None:
    envelope["payloadType"] = "text/plain"


def _by_nobody(envelope: dict[str, Any]) -> None:
    envelope["signatures"] = []


def _without_payload(envelope: dict[str, Any]) -> None:
    del envelope["payload"]


SPOILED = {
    "payload": (_payload_changed, "SIGNATURE_INVALID"),
    "signature": (_signature_changed, "SIGNATURE_INVALID"),
    "type": (_of_another_type, "ENVELOPE_INVALID"),
    "nobody": (_by_nobody, "SIGNATURE_INVALID"),
    "no-payload": (_without_payload, "ENVELOPE_INVALID"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_an_envelope_that_was_altered_is_refused(what: str) -> None:
    spoil: Callable[[dict[str, Any]], None]
    spoil, code = SPOILED[what]
    envelope = attestation.signed(RESULT, KEY)
    spoil(envelope)

    with pytest.raises(SignatureError) as refused:
        attestation.check(envelope, KEY.public)

    assert refused.value.code == code


def test_a_signature_of_another_key_is_none() -> None:
    with pytest.raises(SignatureError, match=OTHER.public.id) as refused:
        attestation.check(attestation.signed(RESULT, KEY), OTHER.public)

    assert refused.value.facts["got"] == [KEY.public.id]


def test_a_key_that_another_name_stands_over_is_not_asked() -> None:
    envelope = attestation.signed(RESULT, KEY)
    envelope["signatures"][0]["keyid"] = OTHER.public.id

    with pytest.raises(SignatureError, match="does not fit"):
        attestation.check(envelope, OTHER.public)


@pytest.mark.parametrize(
    "other",
    [
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"predicate": ["accuracy", 0.5]},
    ],
    ids=["predicate-type", "type", "predicate"],
)
def test_a_statement_about_something_else_is_no_evaluation(other: dict[str, Any]) -> None:
    envelope = signing.sealed(json.dumps({**RESULT.statement(), **other}).encode(), attestation.PAYLOAD_TYPE, KEY)

    with pytest.raises(SignatureError, match=r"The statement that is signed is a '.*', and not a") as refused:
        attestation.check(envelope, KEY.public)

    assert refused.value.code == "STATEMENT_INVALID"


CHANGES: dict[str, dict[str, Any]] = {
    "predicate.job": {"job": "8"},
    "predicate.fence": {"fence": 3},
    "predicate.outcomes.accuracy": {"outcomes": {"accuracy": [1, 1]}},
    "predicate.scores.accuracy": {"scores": {"accuracy": 0.75}},
    "predicate.outputs": {"outputs": ["cat", "cat"]},
    "predicate.environment.threads": {"environment": {"device": "cpu", "threads": 2}},
    "predicate.spec.base": {"spec": {**RESULT.spec, "base": "vbf1:0"}},
    "subject": {"weights_digest": "sha256:" + "f" * 64},
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_result_beside_a_statement_that_says_otherwise_is_refused(field: str) -> None:
    statement = attestation.check(attestation.signed(RESULT, KEY), KEY.public)

    with pytest.raises(SignatureError) as refused:
        attestation.check_says(statement, replace(RESULT, **CHANGES[field]))

    assert (refused.value.code, refused.value.facts["field"]) == ("STATEMENT_MISMATCH", field)


def test_a_score_that_was_summed_in_another_order_is_the_same() -> None:
    statement = attestation.check(attestation.signed(RESULT, KEY), KEY.public)

    attestation.check_says(statement, replace(RESULT, scores={"accuracy": 0.5 + 1e-13}))
    with pytest.raises(SignatureError, match=r"predicate\.scores\.accuracy"):
        attestation.check_says(statement, replace(RESULT, scores={"accuracy": 0.5 + 1e-7}))


@pytest.mark.parametrize("salt", [None, "ab" * 32])
def test_items_are_checked_against_what_is_signed(salt: str | None) -> None:
    evaluated = replace(RESULT, salt=salt)
    statement = attestation.check(attestation.signed(evaluated, KEY), KEY.public)
    items = {"outcomes": evaluated.outcomes, "outputs": list(evaluated.outputs)}

    attestation.check_items(statement, **items, salt=salt)

    for wrong in ({"outputs": ["x", *items["outputs"][1:]]}, {"outcomes": {}}, {"salt": "cd" * 32}):
        with pytest.raises(SignatureError, match="not what the worker has signed"):
            attestation.check_items(statement, **{**items, "salt": salt, **wrong})
