"""The client has a method for every operation of the API, and the command line uses every method that is for people."""

from __future__ import annotations

import inspect
import io
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

import sdk
from hub.app import create_app
from hub.settings import Settings
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import HubError
from sdk.models.jobs import Job, JobBase
from tests.signing import KEY
from vera.ref import AdapterRef

URL = "http://127.0.0.1"
REF = AdapterRef("demo", "a", "v1")
JOB = Job(
    id="1",
    fence=1,
    ref=str(REF),
    version_digest="",
    weights_digest="",
    commit="",
    suite="demo/topics",
    spec={},
    spec_digest="",
    base=JobBase(name="b", fingerprint="vbf1:0", revision=None),
    lease_seconds=60,
)
# What a method is given: by kind, where its name or the method does not ask for more; and then what makes it ask
# another operation.
BY_KIND: Mapping[str, Any] = {
    "AdapterRef": REF,
    "Asked": "x",
    "BinaryIO": io.BytesIO(),
    "Callable[[], Iterator[memoryview]]": lambda: iter([memoryview(b"x")]),
    "Job": JOB,
    "Mapping[str, bytes]": {"vera.json": b"{}"},
    "Mapping[str, object]": {},
    "Sequence[Mapping[str, object]]": [],
    "Sequence[Sequence[object]]": [],
    "Sequence[float | Sequence[float]]": [],
    "Sequence[str]": ["x"],
    "SigningKey": KEY,
    "bool": True,
    "datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "float": 1.0,
    "int": 1,
    "str": "x",
    "str | None": "x",
}
BY_NAME = {"suite": "demo/topics"}
BY_METHOD: Mapping[str, Mapping[str, object]] = {"get_suite": {"name": "demo/topics"}}
ALSO: Mapping[str, Mapping[str, object]] = {
    "feed": {"adapter": "a"},
    "list_invitations": {"organisation": "x"},
    "revoke_token": {"token_id": "current"},
}
NOT_OPERATIONS = {"close"}
# Somebody's CI system, which is no hub.
ELSEWHERE = {"ask_ci_for_identity"}
# What programs ask: the SDK while it pushes, loads and proves; the worker; readers of feeds; and what a command shows
# with more (`alias list`, `suites`, `org list`) or computes at home (`diff`).
NOT_FOR_PEOPLE = {
    "download_blob",
    "download_projection",
    "has_projection",
    "put_projection",
    "push_version",
    "fetch_version",
    "get_base",
    "enrol_worker",
    "register_worker",
    "claim_job",
    "heartbeat",
    "submit_result",
    "report_failure",
    "diff_versions",
}

METHODS = sorted(
    name
    for name, _ in inspect.getmembers(Hub, inspect.isfunction)
    if not name.startswith("_") and name not in NOT_OPERATIONS
)


def asked_by(name: str, more: Mapping[str, object] | None = None) -> set[tuple[str, str]]:
    """The requests that a method sends to a hub that knows nothing."""
    asked: set[tuple[str, str]] = set()

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.add((request.method, request.url.path))
        problem = {"code": "X", "detail": "Nothing is here.", "status": 404}
        return httpx2.Response(404, content=json.dumps(problem), headers={"Content-Type": "application/problem+json"})

    with httpx2.Client(transport=httpx2.MockTransport(answer)) as http:
        hub = Hub(Config(URL, Path("config"), Path("cache"), "vhp_x"), http=http)
        method = getattr(hub, name)
        with suppress(HubError):
            given = method(**{**_arguments(method), **(more or BY_METHOD.get(name, {}))})
            list(given) if inspect.isgenerator(given) else None
    return asked


def _arguments(method: Callable[..., object]) -> dict[str, object]:
    needed = (each for each in inspect.signature(method).parameters.values() if each.default is each.empty)
    return {each.name: _value(each.name, str(each.annotation)) for each in needed if each.kind is not each.VAR_KEYWORD}


def _value(name: str, kind: str) -> object:
    return BY_NAME.get(name) or BY_KIND[kind]


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], re.Pattern[str]]:
    """Every operation of the API, with the addresses that are its."""
    app = create_app(Settings(data_dir=tmp_path_factory.mktemp("described")))
    description = app.openapi()
    app.state.services.database.close()
    return {
        (method.upper(), path): re.compile(re.sub(r"\{\w+\}", "[^/]+", path))
        for path, operations in description["paths"].items()
        for method in operations
    }


def test_every_operation_has_its_method(operations: Mapping[tuple[str, str], re.Pattern[str]]) -> None:
    asked = {request for name in METHODS for request in asked_by(name) | asked_by(name, ALSO.get(name))}

    left_out = [
        operation
        for operation, address in operations.items()
        if not any(method == operation[0] and address.fullmatch(path) for method, path in asked)
    ]

    assert left_out == []


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ELSEWHERE])
def test_every_method_asks_for_an_operation(operations: Mapping[tuple[str, str], re.Pattern[str]], name: str) -> None:
    asked = asked_by(name)
    assert asked
    for method, path in asked:
        assert path.startswith("/oauth/") or any(
            method == known and address.fullmatch(path) for (known, _), address in operations.items()
        ), (method, path)


def test_every_method_for_people_is_reached_by_a_command() -> None:
    folder = Path(sdk.__file__).parent
    said = "".join(path.read_text() for path in sorted((folder / "cli").glob("*.py")))
    used = {name for name in METHODS if re.search(rf"\.{name}\b", said)}

    assert set(METHODS) - used == NOT_FOR_PEOPLE
