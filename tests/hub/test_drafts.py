"""Drafts on both databases: small files in rows and large ones as objects, and what goes with them."""

from __future__ import annotations

import base64
import json
import os
from datetime import timedelta

import pytest

from hub.care import collecting
from tests.builders import make_archive
from tests.hub.harness import Hub


def commit(hub: Hub, repo: str, revision: str = "main", **files: bytes) -> str:
    """Commits the files, and gives the commit."""
    lines: list[object] = [{"key": "header", "value": {"summary": "Some files"}}]
    for path, data in files.items():
        lines.append({"key": "file", "value": {"path": path, "content": base64.b64encode(data).decode()}})
    answer = hub.client.post(
        f"/api/models/{repo}/commit/{revision}", content="\n".join(map(json.dumps, lines)), headers=hub.headers()
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["commitOid"])


@pytest.fixture
def repo(hub: Hub) -> str:
    assert hub.client.post("/api/repos/create", json={"name": "mine"}, headers=hub.headers()).status_code == 200
    return "demo/mine"


def test_what_is_committed_is_read_back_until_nothing_leads_to_it(hub: Hub, repo: str) -> None:
    large = os.urandom(300 * 1024)
    first = commit(hub, repo, large=large, small=b"1")
    second = commit(hub, repo, large=b"2")
    for at, expected in ((first, large), (second, b"2"), ("main", b"2")):
        assert hub.client.get(f"/{repo}/resolve/{at}/large", headers=hub.headers()).content == expected
    squashed = hub.client.post(f"/api/models/{repo}/super-squash/main", json={}, headers=hub.headers())
    assert squashed.status_code == 200, squashed.text
    services = hub.app.state.services
    cleared = collecting.collect(services.database, services.objects, grace=timedelta(0))
    assert (cleared.blobs, cleared.size_bytes) == (1, len(large))
    for path, expected in (("large", b"2"), ("small", b"1")):
        assert hub.client.get(f"/{repo}/resolve/main/{path}", headers=hub.headers()).content == expected


def test_all_that_is_of_an_adapter_goes_with_it(hub: Hub, repo: str) -> None:
    commit(hub, repo, a=b"a file of its own")
    for name in ("branch/dev", "tag/main"):
        body = {"tag": "first"} if name.startswith("tag") else {}
        made = hub.client.post(f"/api/models/{repo}/{name}", json=body, headers=hub.headers())
        assert made.status_code == 200, made.text
    gone = hub.client.request("DELETE", "/api/repos/delete", json={"name": "mine"}, headers=hub.headers())
    assert gone.status_code == 200, gone.text
    services = hub.app.state.services
    assert collecting.collect(services.database, services.objects, grace=timedelta(0)).blobs == 2


def test_what_lies_beside_a_version_is_kept_with_it(hub: Hub, repo: str) -> None:
    hub.register_base()
    archive, large = make_archive(seed=1), os.urandom(300 * 1024)
    files = {**archive.files, "vocabulary": large}
    head = commit(hub, repo, **files)
    assert hub.get("/adapters/demo/mine/versions/v1").json()["digest"] == archive.manifest.digest
    assert hub.client.get(f"/{repo}/resolve/{head}/vocabulary", headers=hub.headers()).content == large
    assert hub.client.get(f"/{repo}/resolve/v1/vocabulary", headers=hub.headers()).status_code == 404
    assert commit(hub, repo, **files) == head


def test_the_record_says_what_was_committed_beside_versions(hub: Hub, repo: str) -> None:
    hub.register_base()
    first = commit(hub, repo, a=b"1")
    for method, path, body in (
        ("POST", "branch/dev", {}),
        ("POST", "tag/dev", {"tag": "kept"}),
        ("DELETE", "tag/kept", None),
        ("DELETE", "branch/dev", None),
    ):
        done = hub.client.request(method, f"/api/models/{repo}/{path}", json=body, headers=hub.headers())
        assert done.status_code == 200, done.text
    commit(hub, repo, **make_archive(seed=1).files)
    beside = commit(hub, repo, notes=b"2")

    items = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"]
    found = [(each["action"], each["facts"]) for each in reversed(items) if each["subject"].startswith(repo)]

    actions = [action for action, _ in found]
    named = ["draft.named", "draft.named", "draft.unnamed", "draft.unnamed"]
    # What lay there before goes along with v1.
    assert actions == [
        "adapter.opened",
        "draft.committed",
        *named,
        "version.pushed",
        "draft.committed",
        "draft.committed",
    ]
    assert (found[1][1]["commit"], found[1][1]["branch"], found[-1][1]["commit"]) == (first, "main", beside)
    assert found[-1][1]["files"] == 2


def test_the_record_says_what_was_squashed(hub: Hub, repo: str) -> None:
    before = commit(hub, repo, a=b"1")
    assert hub.client.post(f"/api/models/{repo}/super-squash/main", json={}, headers=hub.headers()).status_code == 200
    event = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"][0]
    assert (event["action"], event["facts"]["before"]) == ("draft.squashed", before)
