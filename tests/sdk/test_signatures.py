"""What a hub says of an evaluation, beside what its worker has signed of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sdk.client import Hub
from sdk.config import Config
from sdk.models.evaluations import Evaluation, ScoreBeside
from sdk.signatures import Signed, check_evaluation
from vera import attestation
from vera.attestation import Evaluated
from vera.errors import SignatureError
from vera.signing import SigningKey, sealed

KEY = SigningKey.generate()
SAID = Evaluation(
    id="1", ref="demo/adapter@v1", version_digest="sha256:aa", suite="demo/topics", spec_digest="sha256:cc", state="done",
    score=0.5, interval=(0.1, 0.9), metric="accuracy", items=2, attempts=1, position=None, reason=None, worker=None,
    created_at="", started_at=None, finished_at=None, environment={}, beside={"f1": ScoreBeside(0.7, (0.1, 0.9))},
    seconds=1.0,
)  # fmt: skip
ENVELOPE = attestation.signed(
    Evaluated(
        job="1", fence=1, ref="demo/adapter@v1", version_digest="sha256:aa", weights_digest="sha256:bb",
        spec={"suite": "demo/topics"}, spec_digest="sha256:cc", outcomes={"accuracy": [1, 0], "f1": [[1, 1], [0, 0]]},
        scores={"accuracy": 0.5, "f1": 0.7}, outputs=["a", "b"], environment={}, seconds=1.0,
    ),
    KEY,
)  # fmt: skip


@pytest.mark.parametrize("name", ["demo/adapter@v1", "acme/moved@v1"])
def test_what_is_said_as_it_was_signed_is_believed_wherever_the_adapter_was_moved_to(name: str) -> None:
    assert check_evaluation(replace(SAID, ref=name), ENVELOPE, KEY.public).rescored == ()


@pytest.mark.parametrize(
    ("field", "value"), [("id", "2"), ("version_digest", "sha256:ab"), ("suite", "demo/other"), ("items", 999),
    ("spec_digest", "sha256:cd"), ("environment", {"device": "other"}), ("seconds", 9.0)],
)  # fmt: skip
def test_what_is_said_otherwise_is_refused(field: str, value: Any) -> None:
    with pytest.raises(SignatureError, match="do not believe it"):
        check_evaluation(replace(SAID, **{field: value}), ENVELOPE, KEY.public)


def test_every_score_that_is_not_the_signed_one_is_told() -> None:
    lie = replace(SAID, score=0.6, beside={"f1": ScoreBeside(0.99, (0.98, 1.0))})
    assert check_evaluation(lie, ENVELOPE, KEY.public).rescored == ("accuracy", "f1")


def test_a_score_that_differs_where_no_page_shows_it_is_told() -> None:
    assert check_evaluation(replace(SAID, score=0.5 + 1e-7), ENVELOPE, KEY.public).rescored == ("accuracy",)


def test_what_a_worker_signs_that_is_no_result_is_refused_or_told() -> None:
    """A key signs whatever its owner likes."""
    statement = attestation.check(ENVELOPE, KEY.public)

    def checked(**predicate: Any) -> Signed:
        other = {**statement, "predicate": {**statement["predicate"], **predicate}}
        return check_evaluation(SAID, sealed(json.dumps(other).encode(), attestation.PAYLOAD_TYPE, KEY), KEY.public)

    with pytest.raises(SignatureError, match="The suite of the evaluation 1"):
        checked(spec="demo/topics")
    assert checked(scores=[0.5, 0.7]).rescored == ("accuracy", "f1")


def test_what_a_signature_has_digests_of_is_asked_for_and_read() -> None:
    items = {"salt": "5a", "outcomes": {"matthews": [[1.0, 0.0], [1.0, 1.0]]}, "outputs": ["0", "1"]}

    def answer(request: httpx2.Request) -> httpx2.Response:
        is_asked = request.url.query == b"items=true"
        signer = {"key_id": "sha256:00", "name": "bench", "revoked_at": None}
        said = {
            "evaluation": "7",
            "envelope": {},
            "public_key": "",
            "signed_by": signer,
            "items": items if is_asked else None,
        }
        return httpx2.Response(200, json=said)

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        hub = Hub(Config("http://127.0.0.1", Path("config"), Path("cache")), http=http)
        alone, whole = hub.get_signature("7"), hub.get_signature("7", with_items=True)

    assert alone.items is None
    assert whole.items is not None
    assert whole.items.outcomes == {"matthews": ([1.0, 0.0], [1.0, 1.0])}
    assert whole.items.outputs == ("0", "1")
