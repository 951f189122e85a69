"""Nothing of the API is without a method of the client, and nothing of the client without a command that uses it."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest

from sdk.client import Hub
from sdk.config import Config
from sdk.errors import HubError
from tests.sdk.fakes import URL
from vera.ref import AdapterRef

ROOT = Path(__file__).parents[2]
PATHS = json.loads((ROOT / "tests" / "golden" / "openapi.json").read_text())["paths"]
OPERATIONS = [(method.upper(), path) for path, operations in PATHS.items() for method in operations]
METHODS = {name: method for name, method in inspect.getmembers(Hub, inspect.isfunction) if not name.startswith("_")}

# The command compares at home, where it also proves what it compares.
WITHOUT_COMMAND = {"diff_versions"}
# What asks the hub nothing, or asks somebody else first.
NOT_OF_THE_API = {"close", "ask_ci_for_identity"}


@dataclass(frozen=True)
class Leased:
    """As much of a job as its requests say."""

    id: str = "7"
    fence: int = 1


REF = AdapterRef("acme", "topics", "v1")
# What a parameter of this name is given; any other gets a word.
GIVEN: dict[str, object] = {
    **{name: [] for name in ("rows", "scopes", "suites", "outcomes", "outputs")},
    **{name: {} for name in ("envelope", "environment")},
    **dict.fromkeys(("is_admin", "may_retry"), True),
    "job": Leased(),
    "suite": "demo/topics",
    "time": datetime(2026, 3, 1, tzinfo=UTC),
    "files": {"vera.json": b"{}"},
    "runs": lambda: iter([memoryview(b"x")]),
    "into": BytesIO(),
    "seconds": 1.0,
    "size_bytes": 1,
    "max_bytes": 1,
}
OTHERWISE = {"get_suite": {"name": "demo/topics"}, "request_evaluation": {"ref": str(REF)}}
# What asks for something else when it is given something else.
AGAIN: dict[str, list[dict[str, object]]] = {
    "feed": [{"adapter": "topics"}],
    "list_invitations": [{"organisation": "acme"}],
    "revoke_token": [{"token_id": "current"}],
}


def asked_by(name: str) -> Iterator[tuple[str, str]]:
    """Method and path of every request that a method of the client makes."""
    asked: list[tuple[str, str]] = []

    def refuse(request: httpx2.Request) -> httpx2.Response:
        asked.append((request.method, request.url.path))
        return httpx2.Response(400, json={})

    for more in [{}, *AGAIN.get(name, [])]:
        with httpx2.Client(transport=httpx2.MockTransport(refuse)) as http, suppress(HubError):
            found = METHODS[name](
                Hub(Config.resolve(url=URL), http=http), **{**_needed(METHODS[name]), **OTHERWISE.get(name, {}), **more}
            )
            next(found)  # a list asks when it is read
    return iter(asked)


def _needed(method: Callable[..., Any]) -> dict[str, object]:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    needed = [each for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    return {each.name: REF if "AdapterRef" in str(each.annotation) else GIVEN.get(each.name, "acme") for each in needed}


def _is_at(path: str, template: str) -> bool:
    return re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(template)), path) is not None


def test_every_operation_of_the_api_has_a_method_of_the_client() -> None:
    asked = {each for name in METHODS.keys() - NOT_OF_THE_API for each in asked_by(name)}

    missing = [
        f"{method} {path}"
        for method, path in OPERATIONS
        if not any(by == method and _is_at(at, path) for by, at in asked)
    ]

    assert missing == []


@pytest.mark.parametrize("name", sorted(METHODS.keys() - NOT_OF_THE_API))
def test_every_method_of_the_client_asks_for_something_that_is_there(name: str) -> None:
    for method, path in asked_by(name):
        is_described = any(method == by and _is_at(path, at) for by, at in OPERATIONS)
        assert is_described or path.startswith("/oauth/"), f"{method} {path}"


def test_every_method_of_the_client_is_used_by_a_command_or_a_worker() -> None:
    files = [*(ROOT / "sdk").rglob("*.py"), *(ROOT / "hub" / "worker").rglob("*.py")]
    used = {
        node.attr
        for file in files
        if file.parent.name != "client"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute)
    }

    assert sorted(METHODS.keys() - used - WITHOUT_COMMAND) == []
    assert used.isdisjoint(WITHOUT_COMMAND)
