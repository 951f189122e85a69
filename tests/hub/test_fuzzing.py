"""Whatever a client sends, it is never a mistake of ours: no 5xx for anything that fits the description, or nearly."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hub.auth.tokens import TokenKind
from hub.domain import uploads
from hub.errors import HubError
from hub.settings import Settings
from tests.builders import edit_weights, make_archive
from tests.hub.harness import Hub, start
from vera.errors import VeraError
from vera.manifest import MANIFEST_FILE, WEIGHTS_FILE

# What an answer must keep to: the statuses, types, headers and shapes that the description has.
DESCRIBED = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Said of an address before it is known who asks.
ADDRESS_WRONG = {"PARAMETER_UNKNOWN", "PARAMETER_REPEATED"}
CALM = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with a base, an adapter, a suite and an evaluation, so that the fuzzer finds something."""
    hub = start(Settings(data_dir=tmp_path_factory.mktemp("fuzz"), allowed_hosts=("testserver",)))
    hub.register_base()
    worker = hub.worker()
    hub.push(make_archive())
    worker.finish(worker.must_claim())
    yield hub
    hub.database.close()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_every_operation_answers_as_it_is_described_and_never_with_a_5xx(furnished: Hub, mode: GenerationMode) -> None:
    """`positive` is what the description allows, `negative` what it does not."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", furnished.app)
    personal, worker = (furnished.headers("demo", kind) for kind in (TokenKind.PERSONAL, TokenKind.WORKER))
    asked = 0
    for operation in _operations(schema, mode):
        headers = worker if operation.path.startswith("/api/v1/worker") else personal
        asked += _ask(operation, mode, headers)
    assert asked > 60


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whoever_has_no_token_is_answered_as_it_is_described(furnished: Hub, mode: GenerationMode) -> None:
    """What the description says is open is answered, and everything else is 401, or 400 or 422 for what is wrong about
    the address whoever asks."""
    schema = schemathesis.openapi.from_asgi("/openapi.json", furnished.app)
    for operation in _operations(schema, mode):
        is_open = {} in operation.definition.raw["security"]
        _ask(operation, mode, {}, may=None if is_open else {400, 401})


def _operations(schema: Any, mode: GenerationMode) -> Iterator[Any]:
    """All there are, or all that can be asked wrongly."""
    every = (result.ok() for result in schema.get_all_operations())
    return (each for each in every if mode is GenerationMode.POSITIVE or _can_be_asked_wrongly(each.definition.raw))


def _can_be_asked_wrongly(described: Mapping[str, Any]) -> bool:
    """Not where there is no token to leave out, no body, and nothing but any text in the address: the generator finds
    out for itself, after hundreds of tries."""
    is_any_text = all(
        each["in"] == "path" and each["schema"]["type"] == "string" for each in described.get("parameters", ())
    )
    return not ({} in described["security"] and "requestBody" not in described and is_any_text)


def _ask(operation: Any, mode: GenerationMode, headers: dict[str, str], *, may: set[int] | None = None) -> int:
    """How often the operation was asked, and answered with what its description has, or a problem: of the statuses
    `may`, where that is said and the address is right, and never of those from 500."""
    asked = 0

    @CALM
    @given(operation.as_strategy(generation_mode=mode))
    def send(case: schemathesis.Case) -> None:
        nonlocal asked
        asked += 1
        answer = case.call(headers=headers)
        asked_with = case.as_curl_command()
        assert answer.status_code < 500, (asked_with, answer.text)
        is_let_in = may is None or answer.status_code in may or answer.json()["code"] in ADDRESS_WRONG
        assert is_let_in, (asked_with, answer.status_code)
        if answer.status_code < 400:
            # A default answer, which is a refusal, stands for no success.
            assert str(answer.status_code) in operation.definition.raw["responses"], (asked_with, answer.text)
            case.validate_response(answer, checks=DESCRIBED)
        else:
            assert answer.headers["content-type"] == ["application/problem+json"], (asked_with, answer.text)

    send()
    return asked


# -- the manifest, which the schema knows only as bytes -----------------------------------------------

ARCHIVE = make_archive()
MANIFEST = json.loads(ARCHIVE.files[MANIFEST_FILE])

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.just("v")
)
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@st.composite
def _spoiled_manifests(draw: st.DrawFn) -> bytes:
    """A manifest with something else at one of its places, written as Python writes JSON."""
    manifest = json.loads(json.dumps(MANIFEST))
    place: Any = manifest
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and draw(st.booleans()):
            place = place[key]
            continue
        place[key] = draw(_values)
        return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()


@settings(CALM, max_examples=200)
@given(_spoiled_manifests() | st.binary(max_size=50))
def test_no_manifest_is_more_than_refused(manifest: bytes) -> None:
    try:
        uploads.check_upload({**ARCHIVE.files, MANIFEST_FILE: manifest})
    except (VeraError, HubError):
        return


@settings(CALM, max_examples=200)
@given(st.binary(max_size=50), st.integers(0, len(ARCHIVE.files[WEIGHTS_FILE])))
def test_no_tensor_file_is_more_than_refused(junk: bytes, at: int) -> None:
    data = ARCHIVE.files[WEIGHTS_FILE]
    files = edit_weights(ARCHIVE, lambda _: data[:at] + junk + data[at + len(junk) :])
    try:
        uploads.check_upload(files)
    except (VeraError, HubError):
        return
