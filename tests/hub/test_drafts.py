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
