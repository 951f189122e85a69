"""Drafts on both databases: small files in rows and large ones as objects, and what goes with them."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from httpx2 import Response
from sqlalchemy import update

from hub.care import collecting
from hub.db.models.accounts import Account
from hub.domain import accounts, committing, drafting, moving
from hub.domain.claiming import NO_QUOTA
from hub.domain.committing import Keeping
from hub.domain.drafting import Loose
from tests.builders import make_archive
from tests.hub.harness import Hub
from tests.hub.postgres import wait_for_a_lock


def commit(hub: Hub, repo: str, revision: str = "main", **files: bytes) -> str:
    """Commits the files, and gives the commit."""
    answer = try_commit(hub, repo, revision, **files)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["commitOid"])


def try_commit(hub: Hub, repo: str, revision: str = "main", **files: bytes) -> Response:
    content = commit_lines(**files)
    return hub.client.post(f"/api/models/{repo}/commit/{revision}", content=content, headers=hub.headers())


def commit_lines(**files: bytes) -> str:
    lines: list[object] = [{"key": "header", "value": {"summary": "Some files"}}]
    for path, data in files.items():
        lines.append({"key": "file", "value": {"path": path, "content": base64.b64encode(data).decode()}})
    return "\n".join(map(json.dumps, lines))


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


def test_who_sees_an_adapter_without_versions_is_in_the_record(hub: Hub, repo: str) -> None:
    for _ in range(2):  # the second time changes nothing
        said = {"gated": "manual", "private": True}
        assert hub.client.put(f"/api/models/{repo}/settings", json=said, headers=hub.headers()).status_code == 200
    events = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"]
    assert [(each["action"], each["facts"]) for each in events if "changed" in each["action"]] == [
        ("adapter.gate-changed", {"gated": "manual"}),
        ("adapter.visibility-changed", {"visibility": "private"}),
    ]


def test_an_adapter_is_taken_back_by_the_name_it_was_made_with(hub: Hub) -> None:
    for method, path in (("POST", "/api/repos/create"), ("DELETE", "/api/repos/delete")):
        answer = hub.client.request(method, path, json={"name": "Mine"}, headers=hub.headers())
        assert answer.status_code == 200, answer.text


def test_what_lies_beside_a_version_is_kept_with_it(hub: Hub, repo: str) -> None:
    hub.register_base()
    archive, large = make_archive(seed=1), os.urandom(300 * 1024)
    files = {**archive.files, "vocabulary": large}
    head = commit(hub, repo, **files)
    assert hub.get("/adapters/demo/mine/versions/v1").json()["digest"] == archive.manifest.digest
    assert hub.client.get(f"/{repo}/resolve/{head}/vocabulary", headers=hub.headers()).content == large
    assert hub.client.get(f"/{repo}/resolve/v1/vocabulary", headers=hub.headers()).status_code == 404
    assert commit(hub, repo, **files) == head


def test_a_token_that_is_revoked_while_a_commit_comes_is_told_nothing_of_what_is_there(hub: Hub, repo: str) -> None:
    commit(hub, repo, a=b"1")
    lines = commit_lines(a=b"1").encode()

    def pieces() -> Iterator[bytes]:
        yield lines[:-1]
        hub.change_tokens(revoked_at=datetime.now(UTC))
        yield lines[-1:]

    answer = hub.client.post(f"/api/models/{repo}/commit/main", content=pieces(), headers=hub.headers())

    assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_INVALID")


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


def test_an_archive_that_begins_with_a_pickle_is_kept_under_no_name(hub: Hub, repo: str) -> None:
    refused = try_commit(hub, repo, notes=b"PK\x03\x04" + bytes(26) + b"archive/data.pkl" + b"\x80\x02}q\x00.")

    assert (refused.status_code, refused.json()["code"]) == (422, "FILE_NOT_KEPT")
    assert "is a pickle" in refused.json()["error"]


def test_drafts_are_so_large_and_so_many_and_no_more(hub: Hub, repo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafting, "MAX_TREE_BYTES", 100)
    monkeypatch.setattr(drafting, "MAX_DRAFTS", 2)  # of which opening it has made one

    large = try_commit(hub, repo, a=bytes(101))
    commit(hub, repo, a=b"1")
    another = try_commit(hub, repo, a=b"2")

    assert (large.status_code, large.json()["code"]) == (413, "DRAFT_TOO_LARGE")
    assert (another.status_code, another.json()["code"]) == (409, "DRAFTS_TOO_MANY")


def test_the_record_says_what_was_squashed(hub: Hub, repo: str) -> None:
    before = commit(hub, repo, a=b"1")
    assert hub.client.post(f"/api/models/{repo}/super-squash/main", json={}, headers=hub.headers()).status_code == 200
    event = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"][0]
    assert (event["action"], event["facts"]["before"]) == ("draft.squashed", before)


def test_a_commit_that_comes_before_a_squash_is_part_of_it(hub: Hub, repo: str) -> None:
    commit(hub, repo, a=b"1")
    headers = hub.headers()
    with hub.database.reading() as session:
        demo = accounts.authenticate(session, hub.token()).principal
        head = committing.find_head(session, demo, None, namespace="demo", name="mine")
    with ThreadPoolExecutor(1) as other:
        with hub.database.writing() as session:
            committing.hold(session, demo, "demo", "mine")
            squashing = other.submit(hub.client.post, f"/api/models/{repo}/super-squash/main", json={}, headers=headers)
            wait_for_a_lock(hub.database)
            loose, keeping = Loose(head.kept, {"b": b"2"}), Keeping("demo", "mine", "between", NO_QUOTA, {})
            committing.keep_draft(session, demo, head, loose, keeping)
        assert squashing.result().status_code == 200, squashing.result().text
    assert {file["path"] for file in tree(hub, repo)} == {".gitattributes", "a", "b"}


def test_a_squash_of_what_moves_away_says_where_it_is(hub: Hub, repo: str) -> None:
    headers = hub.headers()
    with hub.database.reading() as session:
        demo = accounts.authenticate(session, hub.token()).principal
    with ThreadPoolExecutor(1) as other:
        with hub.database.writing() as session:
            committing.hold(session, demo, "demo", "mine")
            squashing = other.submit(hub.client.post, f"/api/models/{repo}/super-squash/main", json={}, headers=headers)
            wait_for_a_lock(hub.database)
            moving.move(session, demo, "demo", "mine", to_namespace="demo", to_name="ours")
        answer = squashing.result()
    assert [each.headers["location"] for each in answer.history] == ["/api/models/demo/ours/super-squash/main"]
    assert answer.status_code == 200, answer.text


@pytest.fixture
def branched(hub: Hub, repo: str) -> str:
    """With a version, and a branch `dev` that has a file beside it."""
    hub.register_base()
    commit(hub, repo, **make_archive(seed=1).files)
    assert name(hub, repo, "branch/dev") == 200
    commit(hub, repo, "dev", notes=b"of the branch")
    return repo


def name(hub: Hub, repo: str, what: str, **body: str) -> int:
    return hub.client.post(f"/api/models/{repo}/{what}", json=body, headers=hub.headers()).status_code


def tree(hub: Hub, repo: str, revision: str = "main") -> list[dict[str, object]]:
    files: list[dict[str, object]] = hub.client.get(f"/api/models/{repo}/tree/{revision}", headers=hub.headers()).json()
    return files


def test_a_word_means_a_branch_or_a_tag_or_an_alias(hub: Hub, branched: str) -> None:
    def set_alias(alias: str) -> int:
        path = f"/adapters/{branched}/aliases/{alias}"
        return hub.put(path, {"version": "v1"}, hub.headers()).status_code

    assert set_alias("dev") == 409
    assert name(hub, branched, "tag/dev", tag="dev") == 409
    assert name(hub, branched, "tag/dev", tag="draft") == 200
    assert set_alias("draft") == 409
    assert name(hub, branched, "branch/draft") == 409
    assert set_alias("fine") == 201
    assert name(hub, branched, "branch/fine") == 409
    assert name(hub, branched, "tag/dev", tag="fine") == 409
    assert "notes" in {file["path"] for file in tree(hub, branched, "dev")}


def test_what_stands_on_a_version_goes_with_it(hub: Hub, branched: str) -> None:
    assert name(hub, branched, "branch/old", startingPoint="v1") == 200
    assert name(hub, branched, "tag/dev", tag="draft") == 200
    commit(hub, branched, **make_archive(seed=2).files)
    assert name(hub, branched, "branch/new") == 200

    assert hub.delete(f"/adapters/{branched}/versions/v1?reason=wrong", hub.headers()).status_code == 204

    refs = hub.client.get(f"/api/models/{branched}/refs", headers=hub.headers()).json()
    assert {each["name"] for each in (*refs["branches"], *refs["tags"])} == {"main", "new", "v2"}
    assert try_commit(hub, branched, "dev", more=b"x").status_code == 404
    events = hub.get(f"/namespaces/{branched.partition('/')[0]}/audit", headers=hub.headers()).json()["items"]
    facts = next(each["facts"] for each in events if each["action"] == "version.deleted")
    assert (facts["branches"], facts["tags"]) == (["dev", "old"], ["draft"])


def test_nothing_is_committed_to_a_branch_of_what_is_in_quarantine(hub: Hub, branched: str) -> None:
    admin = hub.headers("ada")
    with hub.database.writing() as session:
        session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))
    quarantined = hub.put(f"/adapters/{branched}/versions/v1/quarantine", {"reason": "a threat"}, admin)
    assert quarantined.status_code == 200, quarantined.text

    refused = try_commit(hub, branched, "dev", more=b"x")

    assert refused.status_code == 403
    assert "in quarantine" in refused.text


def test_a_tag_of_main_is_of_all_that_main_has(hub: Hub, branched: str) -> None:
    commit(hub, branched, extra=b"beside the version")
    assert name(hub, branched, "tag/main", tag="release") == 200
    assert tree(hub, branched, "release") == tree(hub, branched)
    assert name(hub, branched, "tag/v1", tag="first") == 200
    assert hub.get(f"/adapters/{branched}/aliases/first").json()["version"] == 1
