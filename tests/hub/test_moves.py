"""An adapter gets another name or owner: the old name leads to it, is nobody else's, and nothing is lost on the way."""

from __future__ import annotations

from dataclasses import replace

import pytest
from httpx2 import Response
from sqlalchemy import select

from hub.db.models.accounts import Account
from hub.db.models.evaluating import Evaluation
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of
from tests.signing import signed
from vera.manifest import WEIGHTS_FILE


def move(hub: Hub, old: str, new: str, user: str = "demo") -> Response:
    return hub.post(f"/adapters/{old}/move", {"to": new}, hub.headers(user))


@pytest.fixture
def pushed(hub: Hub) -> Hub:
    hub.register_base()
    assert hub.push(make_archive(), "old").status_code == 201
    return hub


def test_the_old_name_leads_to_the_new_one_at_every_door(pushed: Hub) -> None:
    moved = move(pushed, "demo/old", "demo/new")
    assert (moved.status_code, moved.json()["id"]) == (200, "demo/new")

    for path in (
        "/api/v1/adapters/{}",
        "/api/v1/adapters/{}/versions/v1",
        "/api/v1/adapters/{}/downloads?days=3",
        "/api/models/{}",
        "/api/models/{}/revision/refs%2Fheads%2Fmain?blobs=true",
        f"/{{}}/resolve/v1/{WEIGHTS_FILE}",
        "/{}",
        "/{}/v1",
        "/{}@v1",
    ):
        asked = path.format("demo/old")
        answer = pushed.client.get(asked, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, path.format("demo/new")), asked
        assert pushed.client.get(asked).status_code == 200
    assert [each["id"] for each in pushed.get("/adapters?search=new").json()["items"]] == ["demo/new"]
    assert pushed.get("/adapters?search=old").json()["items"] == []


def test_names_lead_on_however_often_it_moves_and_back(pushed: Hub) -> None:
    for old, new in (("demo/old", "demo/newer"), ("demo/newer", "demo/newest")):
        assert move(pushed, old, new).status_code == 200
    assert pushed.get("/adapters/demo/old").json()["id"] == "demo/newest"
    assert pushed.get("/adapters/demo/newer").json()["id"] == "demo/newest"

    assert move(pushed, "demo/newest", "demo/old").status_code == 200
    back = pushed.client.get("/api/v1/adapters/demo/old", follow_redirects=False)
    assert (back.status_code, back.json()["id"]) == (200, "demo/old")
    assert pushed.get("/adapters/demo/newest").json()["id"] == "demo/old"
    assert move(pushed, "demo/old", "demo/newest").json()["id"] == "demo/newest"


def test_a_name_that_leads_somewhere_is_given_to_no_other(pushed: Hub) -> None:
    move(pushed, "demo/old", "demo/new")
    assert code_of(pushed.push(make_archive(seed=1), "old")) == (409, "NAME_MOVED")
    created = pushed.client.post("/api/repos/create", json={"name": "old"}, headers=pushed.headers())
    assert created.json()["code"] == "NAME_MOVED"
    pushed.push(make_archive(seed=2), "other")
    assert code_of(move(pushed, "demo/other", "demo/old")) == (409, "NAME_MOVED")
    assert code_of(move(pushed, "demo/other", "demo/new")) == (409, "ADAPTER_EXISTS")
    assert pushed.push(make_archive(seed=1), "new").json()["ref"] == "demo/new@v2"


def test_a_name_like_one_that_is_there_is_said_to_be_like_it(pushed: Hub) -> None:
    pushed.found("acme")
    olga = pushed.headers("olga")
    assert pushed.push(make_archive(seed=1), "foo", user="olga").status_code == 201
    assert pushed.push(make_archive(seed=2), "foo", user="acme", headers=olga).status_code == 201

    refused = move(pushed, "olga/foo", "acme/f00", "olga")

    assert code_of(refused) == (409, "NAME_TOO_SIMILAR")
    assert move(pushed, "olga/foo", "olga/f00", "olga").status_code == 200


def test_what_a_worker_found_meanwhile_is_kept(pushed: Hub) -> None:
    worker = pushed.worker()
    job = worker.must_claim()
    assert move(pushed, "demo/old", "demo/new").status_code == 200

    another = {"otherwise": {"ref": "demo/another@v1"}}
    forged = signed(job, [1] * 8, ["a"] * 8, environment={"device": "cpu"}, seconds=0.5, **another)
    assert code_of(worker.finish(job, [1] * 8, envelope=forged)) == (422, "STATEMENT_MISMATCH")
    assert worker.finish(job).status_code == 204
    assert pushed.get("/evaluations/1").json()["ref"] == "demo/new@v1"


def test_it_goes_to_another_owner_who_takes_it(pushed: Hub) -> None:
    pushed.found("acme", demo="maintainer", pia="publisher")
    publisher = {"adapter": "old", "issuer": "https://gitlab.com", "repository": "a/b", "repository_id": "1",
                 "owner_id": "2", "workflow": "w", "environment": None}  # fmt: skip
    assert pushed.post("/namespaces/demo/publishers", publisher, pushed.headers()).status_code == 201

    pushed.worker()
    asked = pushed.post("/evaluations", {"ref": "demo/old@v1", "suite": "demo/topics"}, pushed.headers())
    assert asked.status_code in (200, 201, 202), asked.text

    assert move(pushed, "demo/old", "acme/topics").json()["id"] == "acme/topics"

    with pushed.database.reading() as session:
        owners = session.scalars(select(Account.name).join(Evaluation, Evaluation.owner_id == Account.id)).all()
    assert owners == ["acme"]
    assert pushed.get("/adapters/demo/old").json()["id"] == "acme/topics"
    assert [each["id"] for each in pushed.get("/adapters?owner=acme").json()["items"]] == ["acme/topics"]
    assert pushed.get("/adapters?owner=demo").json()["items"] == []
    assert pushed.get("/namespaces/demo/publishers", headers=pushed.headers()).json()["items"] == []
    pia = pushed.headers("pia")
    assert pushed.push(make_archive(seed=3), "topics", user="acme", headers=pia).json()["ref"] == "acme/topics@v2"
    for namespace, user, action in (("demo", "demo", "adapter.moved"), ("acme", "olga", "adapter.received")):
        events = pushed.get(f"/namespaces/{namespace}/audit", headers=pushed.headers(user)).json()["items"]
        assert action in [each["action"] for each in events]


def test_it_takes_a_role_in_both_namespaces(pushed: Hub) -> None:
    pushed.found("acme", max="maintainer", pia="publisher")
    assert code_of(move(pushed, "demo/old", "acme/old")) == (403, "FORBIDDEN")  # nobody in acme
    pushed.push(make_archive(seed=4), "ours", user="acme", headers=pushed.headers("olga"))
    assert code_of(move(pushed, "acme/ours", "acme/mine", user="pia")) == (403, "FORBIDDEN")
    assert code_of(move(pushed, "acme/ours", "max/ours", user="max")) == (403, "FORBIDDEN")  # no owner of acme
    assert move(pushed, "acme/ours", "acme/mine", user="max").status_code == 200
    assert move(pushed, "acme/mine", "olga/mine", user="olga").status_code == 200


def test_a_hidden_adapter_is_found_by_its_old_name_as_little_as_by_the_new(pushed: Hub) -> None:
    pushed.push(make_archive(seed=5), "closed", visibility="private")
    move(pushed, "demo/closed", "demo/hidden")
    for name in ("closed", "hidden", "Hidden"):
        answer = pushed.get(f"/adapters/demo/{name}", follow_redirects=False)
        assert code_of(answer) == (404, "ADAPTER_UNKNOWN")
    mine = pushed.client.get("/api/v1/adapters/demo/closed", headers=pushed.headers(), follow_redirects=False)
    assert mine.status_code == 307


def test_capitals_lead_to_the_small_letters(pushed: Hub) -> None:
    for path, location in (("/api/models/Demo/OLD", "/api/models/demo/old"),
                           ("/Demo/Old/resolve/main/README.md", "/demo/old/resolve/main/README.md")):  # fmt: skip
        answer = pushed.client.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, location)


def test_what_is_in_no_address_is_told_of(pushed: Hub) -> None:
    move(pushed, "demo/old", "demo/new")
    refused = pushed.post("/evaluations", {"ref": "demo/old@v1", "suite": "demo/topics"}, pushed.headers())
    assert code_of(refused) == (404, "ADAPTER_MOVED")
    assert "demo/new" in refused.json()["detail"]


@pytest.mark.one_process
def test_an_owner_gets_no_more_than_fits(pushed: Hub) -> None:
    parts = pushed.app.state.services
    pushed.found("acme", demo="maintainer")
    pushed.push(make_archive(seed=6), "first", user="acme", headers=pushed.headers("olga"))
    narrow = parts.settings.model_copy(update={"max_account_adapters": 1})
    pushed.app.state.services = replace(parts, settings=narrow)
    assert code_of(move(pushed, "demo/old", "acme/second")) == (403, "QUOTA_EXCEEDED")
    pushed.app.state.services = parts
    assert pushed.get("/adapters/demo/old").json()["id"] == "demo/old"


@pytest.mark.parametrize("new", ["demo/Bad Name", "demo", "admin/x", "demo/x/y"])
def test_an_impossible_name_is_refused(pushed: Hub, new: str) -> None:
    assert code_of(move(pushed, "demo/old", new)) == (422, "NAME_INVALID")
