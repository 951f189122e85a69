"""Gated adapters: everybody reads what they are, and only who was let in gets their files, through every door."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import make_archive, make_stored
from tests.hub.harness import Hub, code_of
from tests.hub.test_projections import DIGEST, PAIR, put
from tests.hub.web.test_signing_in import Browser
from vera.bundle import MEDIA_TYPE
from vera.manifest import CARD_FILE, MANIFEST_FILE, WEIGHTS_FILE

GATED = "/adapters/demo/tiny"


def gate(hub: Hub, gated: str | None = "manual") -> dict[str, str]:
    """demo/tiny in two versions, gated; the hashes of the files of the first."""
    hub.register_base()
    for seed in (0, 1):
        assert hub.push(make_archive(seed=seed), user="demo").status_code == 201
    answer = hub.client.patch(f"/api/v1{GATED}", json={"gated": gated}, headers=hub.headers())
    assert (answer.status_code, answer.json()["gated"]) == (200, gated)
    files = hub.get(f"{GATED}/versions/v1").json()["files"]
    return {file["path"]: file["sha256"] for file in files}


def decide(hub: Hub, user: str, state: str, by: str = "demo", **more: str) -> Any:
    return hub.put(f"{GATED}/access-requests/{user}", {"state": state, **more}, hub.headers(by))


def test_it_is_seen_and_its_weights_are_not_given(hub: Hub) -> None:
    files = gate(hub)
    for headers in ({}, hub.headers("sam")):
        assert hub.get(GATED, headers=headers).json()["gated"] == "manual"
        assert hub.get(f"{GATED}/versions/latest", headers=headers).status_code == 200
        for path in (WEIGHTS_FILE, MANIFEST_FILE):
            refused = hub.get(f"{GATED}/blobs/{files[path]}", headers=headers)
            assert code_of(refused) == (403, "ADAPTER_GATED")
            assert refused.json()["facts"] == {"adapter": "demo/tiny", "page": "/demo/tiny"}
            assert hub.client.get(f"/demo/tiny/resolve/v1/{path}", headers=headers).status_code == 403
            assert hub.client.head(f"/demo/tiny/resolve/v1/{path}", headers=headers).status_code == 403
        for accepted in ({}, {"Accept": MEDIA_TYPE}):
            path = f"{GATED}/versions/v1?with_files=true"
            assert hub.get(path, headers={**headers, **accepted}).json()["content"] is None
        assert code_of(hub.get(f"{GATED}/versions/v2/diff?against=v1", headers=headers)) == (403, "ADAPTER_GATED")
        assert hub.client.get("/demo/tiny/v2/diff?against=v1").status_code == 403
        assert hub.get(f"{GATED}/blobs/{files[CARD_FILE]}", headers=headers).status_code == 200


def test_what_is_given_is_kept_by_no_cache(hub: Hub) -> None:
    files = gate(hub)
    mine = hub.headers()
    for path in (f"/api/v1{GATED}/blobs/{files[WEIGHTS_FILE]}", f"/demo/tiny/resolve/v1/{WEIGHTS_FILE}"):
        assert hub.client.get(path, headers=mine).headers["cache-control"] == "private, no-store"


def test_who_waited_is_let_in_when_the_gate_lets_everybody_in(hub: Hub) -> None:
    gate(hub)
    sam = hub.headers("sam")
    assert hub.post(f"{GATED}/access", {}, sam).json()["state"] == "pending"
    hub.client.patch(f"/api/v1{GATED}", json={"gated": "auto"}, headers=hub.headers())

    asked = hub.post(f"{GATED}/access", {}, sam).json()

    assert (asked["state"], hub.get(f"{GATED}/access", headers=sam).json()["files"]) == ("accepted", True)
    assert asked["decided_at"] is not None
    event = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"][0]
    assert (event["action"], event["facts"]) == ("access.requested", {"user": "sam", "state": "accepted"})


def test_who_asks_waits_is_let_in_and_is_put_out_again(hub: Hub) -> None:
    weights = f"{GATED}/blobs/{gate(hub)[WEIGHTS_FILE]}"
    sam = hub.headers("sam")
    assert hub.get(f"{GATED}/access", headers=sam).json() == {
        "gated": "manual",
        "files": False,
        "state": None,
        "reason": None,
    }

    asked = hub.post(f"{GATED}/access", {"message": "for a course"}, sam)
    assert (asked.status_code, asked.json()["state"]) == (201, "pending")
    assert hub.post(f"{GATED}/access", {}, sam).json() == asked.json()  # asking twice is asking once
    assert hub.get(weights, headers=sam).status_code == 403
    listed = hub.get(f"{GATED}/access-requests?state=pending", headers=hub.headers()).json()["items"]
    assert [(each["user"], each["message"]) for each in listed] == [("sam", "for a course")]

    let_in = decide(hub, "sam", "accepted")
    assert (let_in.status_code, let_in.json()["decided_by"]) == (200, "demo")
    assert hub.get(weights, headers=sam).status_code == 200
    assert hub.get(f"{GATED}/access", headers=sam).json()["files"] is True

    decide(hub, "sam", "rejected", reason="the course is over")
    assert hub.get(weights, headers=sam).status_code == 403
    refused = hub.post(f"{GATED}/access", {}, sam)
    assert code_of(refused) == (403, "ACCESS_REFUSED")
    assert "the course is over" in refused.json()["detail"]
    assert hub.get(f"{GATED}/access", headers=sam).json()["reason"] == "the course is over"

    decide(hub, "sam", "pending")
    assert hub.get(f"{GATED}/access", headers=sam).json()["state"] == "pending"


def test_who_asks_an_open_gate_is_let_in_at_once(hub: Hub) -> None:
    weights = f"{GATED}/blobs/{gate(hub, 'auto')[WEIGHTS_FILE]}"
    sam = hub.headers("sam")
    assert hub.get(weights, headers=sam).status_code == 403
    assert hub.post(f"{GATED}/access", {}, sam).json()["state"] == "accepted"
    assert hub.get(weights, headers=sam).status_code == 200
    assert hub.get(weights, headers=hub.headers("sue")).status_code == 403


def test_a_token_gets_no_further_than_its_scopes_and_its_restriction(hub: Hub) -> None:
    weights = f"{GATED}/blobs/{gate(hub, 'auto')[WEIGHTS_FILE]}"
    sam = hub.headers("sam")
    hub.post(f"{GATED}/access", {}, sam)
    for made in ({"scopes": ["eval:submit"]}, {"scopes": ["repo:read"], "restricted_to": ["sam"]}):
        token = hub.post("/tokens", {"name": "t", **made}, sam).json()["token"]
        assert hub.get(weights, headers={"Authorization": f"Bearer {token}"}).status_code == 403


def test_members_need_to_ask_nobody(hub: Hub) -> None:
    hub.register_base()
    hub.found("acme", rita="reader")
    hub.push(make_archive(), user="acme", headers=hub.headers("olga"))
    hub.client.patch("/api/v1/adapters/acme/tiny", json={"gated": "manual"}, headers=hub.headers("olga"))
    assert hub.get("/adapters/acme/tiny/access", headers=hub.headers("rita")).json()["files"] is True
    assert hub.get("/adapters/acme/tiny/access", headers=hub.headers("sam")).json()["files"] is False


def test_a_worker_gets_the_files_of_its_job_and_no_others(hub: Hub) -> None:
    weights = f"{GATED}/blobs/{gate(hub)[WEIGHTS_FILE]}"
    worker = hub.worker()
    assert hub.get(weights, headers=worker.headers).status_code == 403
    assert hub.post("/evaluations", {"ref": "demo/tiny@v1", "suite": "demo/topics"}, hub.headers()).status_code < 300
    job = worker.must_claim()
    assert hub.get(weights, headers=worker.headers).status_code == 200
    worker.finish(job)
    while (job := worker.claim()) is not None:
        worker.finish(job)
    assert hub.get(weights, headers=worker.headers).status_code == 403


def test_a_stored_pair_that_only_gated_adapters_use_is_gated(hub: Hub) -> None:
    hub.register_base()
    assert put(hub, PAIR).status_code == 201
    assert hub.push(make_stored(), "one").status_code == 201
    assert hub.get(f"/projections/{DIGEST}").status_code == 200
    hub.client.patch("/api/v1/adapters/demo/one", json={"gated": "auto"}, headers=hub.headers())

    assert code_of(hub.get(f"/projections/{DIGEST}")) == (403, "ADAPTER_GATED")
    assert hub.get("/adapters/demo/one/versions/v1").status_code == 200
    sam = hub.headers("sam")
    hub.post("/adapters/demo/one/access", {}, sam)
    assert hub.get(f"/projections/{DIGEST}", headers=sam).content == PAIR


def test_only_maintainers_decide(hub: Hub) -> None:
    gate(hub)
    hub.post(f"{GATED}/access", {}, hub.headers("sam"))
    assert code_of(decide(hub, "sam", "accepted", by="sam")) == (403, "FORBIDDEN")
    assert code_of(hub.get(f"{GATED}/access-requests", headers=hub.headers("sam"))) == (403, "FORBIDDEN")
    change = hub.client.patch(f"/api/v1{GATED}", json={"gated": None}, headers=hub.headers("sam"))
    assert code_of(change) == (403, "FORBIDDEN")


def test_what_cannot_be_decided_is_told_so(hub: Hub) -> None:
    gate(hub, None)
    assert code_of(hub.post(f"{GATED}/access", {}, hub.headers("sam"))) == (409, "NOT_GATED")
    assert code_of(decide(hub, "sam", "accepted")) == (409, "NOT_GATED")
    hub.client.patch(f"/api/v1{GATED}", json={"gated": "manual"}, headers=hub.headers())
    assert code_of(decide(hub, "nobody-here", "accepted")) == (404, "USER_UNKNOWN")
    assert code_of(decide(hub, "sam", "rejected")) == (404, "ACCESS_REQUEST_UNKNOWN")
    empty = hub.client.patch(f"/api/v1{GATED}", json={}, headers=hub.headers())
    assert code_of(empty) == (422, "BODY_INVALID")


def test_what_is_decided_is_in_the_record(hub: Hub) -> None:
    gate(hub)
    hub.post(f"{GATED}/access", {}, hub.headers("sam"))
    decide(hub, "sam", "accepted")
    decide(hub, "sam", "accepted")  # no change, no event
    events = hub.get("/namespaces/demo/audit", headers=hub.headers()).json()["items"]
    assert [(each["action"], each["actor"]) for each in reversed(events)][-3:] == [
        ("adapter.gate-changed", "demo"),
        ("access.requested", "sam"),
        ("access.decided", "demo"),
    ]


@pytest.mark.parametrize("answer", ["accept", "reject"])
def test_somebody_asks_on_the_page_and_is_answered_there(hub: Hub, answer: str) -> None:
    gate(hub)
    sam, demo = Browser(hub).sign_in(hub, "sam"), Browser(hub).sign_in(hub, "demo")
    assert "/demo/tiny/access" in sam.get("/demo/tiny").text
    assert "Sign in</a> to ask" in Browser(hub).get("/demo/tiny/access").text
    assert "Ask as sam" in sam.get("/demo/tiny/access").text
    assert sam.send("/demo/tiny/access/ask", message="for <b>a course").status_code == 303
    assert "have not answered yet" in sam.get("/demo/tiny/access").text
    assert "Who has asked" not in sam.get("/demo/tiny/access").text
    assert sam.send("/demo/tiny/access/sam/accept").status_code == 403

    assert "for &lt;b&gt;a course" in demo.get("/demo/tiny/access").text
    assert demo.send(f"/demo/tiny/access/sam/{answer}").status_code == 303

    told = {"accept": "You get the files", "reject": "have refused your request"}[answer]
    assert told in sam.get("/demo/tiny/access").text


def test_the_gate_is_set_on_the_page(hub: Hub) -> None:
    gate(hub, None)
    demo = Browser(hub).sign_in(hub, "demo")
    assert demo.send("/demo/tiny/access/gate", gate="auto").status_code == 303
    assert hub.get(GATED).json()["gated"] == "auto"
    hub.token("sue")
    assert demo.send("/demo/tiny/access/let-in", user="sue").status_code == 303
    assert hub.get(f"{GATED}/access", headers=hub.headers("sue")).json()["files"] is True


def test_who_sees_a_gated_adapter_is_not_given_its_pair_for_pushing_its_digest(hub: Hub) -> None:
    hub.register_base()
    assert put(hub, PAIR).status_code == 201
    assert hub.push(make_stored(), "one").status_code == 201
    hub.client.patch("/api/v1/adapters/demo/one", json={"gated": "manual"}, headers=hub.headers())
    eve, address = hub.headers("eve"), f"/projections/{DIGEST}"

    refused = hub.push(make_stored(seed=1), "mine", user="eve")

    assert code_of(refused) == (422, "PROJECTION_MISSING")
    assert code_of(hub.get(address, headers=eve)) == (403, "ADAPTER_GATED")
    assert hub.client.head(f"/api/v1{address}", headers=eve).status_code == 403
    assert put(hub, PAIR, **eve).status_code == 201
    assert hub.push(make_stored(seed=1), "mine", user="eve").status_code == 201
    assert hub.get(address, headers=eve).content == PAIR


def test_who_was_let_in_pushes_with_the_pair_that_they_are_given(hub: Hub) -> None:
    hub.register_base()
    assert put(hub, PAIR).status_code == 201
    assert hub.push(make_stored(), "one").status_code == 201
    hub.client.patch("/api/v1/adapters/demo/one", json={"gated": "auto"}, headers=hub.headers())
    assert hub.post("/adapters/demo/one/access", {}, hub.headers("sam")).status_code in (200, 201)

    assert hub.push(make_stored(seed=1), "mine", user="sam").status_code == 201
