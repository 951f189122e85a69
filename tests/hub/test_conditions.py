"""Changes that are wanted only while a thing is what it was."""

from __future__ import annotations

import pytest

from tests.builders import make_archive
from tests.hub.harness import Hub, code_of

TINY = "/adapters/demo/tiny"
V1 = f"{TINY}/versions/v1"


@pytest.fixture
def pushed(hub: Hub) -> Hub:
    hub.register_base()
    assert hub.push(make_archive()).status_code == 201
    return hub


def etag(hub: Hub, path: str) -> str:
    return hub.get(path, headers=hub.headers()).headers["etag"]


def patch(hub: Hub, body: object, if_match: str) -> object:
    headers = {**hub.headers(), "If-Match": if_match}
    return hub.client.patch(f"/api/v1{TINY}", json=body, headers=headers)


def test_an_adapter_is_changed_by_who_has_read_it_last_and_by_nobody_else(pushed: Hub) -> None:
    read = etag(pushed, TINY)

    assert patch(pushed, {"visibility": "private"}, read).status_code == 200
    refused = patch(pushed, {"gated": "manual"}, read)

    assert code_of(refused) == (412, "CHANGED_SINCE")
    assert refused.json()["facts"] == {"expected": read, "got": etag(pushed, TINY)}
    now = pushed.get(TINY, headers=pushed.headers()).json()
    assert (now["visibility"], now["gated"]) == ("private", None)
    assert patch(pushed, {"gated": "manual"}, f'"other", {etag(pushed, TINY)}').status_code == 200
    assert patch(pushed, {"gated": None}, "*").status_code == 200


@pytest.mark.parametrize(
    ("method", "what", "body"),
    [
        ("PUT", "yank", {"reason": "worse"}),
        ("DELETE", "yank", None),
        ("PUT", "deprecation", {"message": "old"}),
        ("DELETE", "deprecation", None),
    ],
)
def test_a_version_is_taken_back_by_who_has_read_it_last(
    pushed: Hub, method: str, what: str, body: dict[str, str] | None
) -> None:
    read, demo = etag(pushed, V1), pushed.headers()
    assert pushed.put(f"{V1}/deprecation", {"message": "for v2"}, demo).status_code == 200

    def change(if_match: str) -> object:
        headers = {**demo, "If-Match": if_match}
        return pushed.client.request(method, f"/api/v1{V1}/{what}", json=body, headers=headers)

    assert code_of(change(read)) == (412, "CHANGED_SINCE")
    assert pushed.get(V1).json()["deprecated"]["message"] == "for v2"
    assert change(etag(pushed, V1)).status_code == 200


def test_a_condition_shows_nobody_what_is_hidden(pushed: Hub) -> None:
    assert patch(pushed, {"visibility": "private"}, "*").status_code == 200
    headers = {**pushed.headers("eve"), "If-Match": '"guess"'}

    hidden = pushed.client.patch(f"/api/v1{TINY}", json={"gated": None}, headers=headers)
    missing = pushed.client.patch("/api/v1/adapters/demo/none", json={"gated": None}, headers=headers)

    assert code_of(hidden) == code_of(missing)
