"""The record: every change is in it, with the change or not at all, and nobody can change it unseen."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, update

from hub.db.models.accounts import Account
from hub.db.models.record import AuditEvent
from hub.domain.audit import broken_chains
from tests.builders import BASE_NAME, make_archive
from tests.hub.harness import Hub, code_of


def events(hub: Hub, namespace: str, user: str, **query: object) -> list[dict[str, object]]:
    answer = hub.get(f"/namespaces/{namespace}/audit", headers=hub.headers(user), params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def broken(hub: Hub) -> list[str]:
    with hub.database.reading() as session:
        return list(broken_chains(session))


def make_admin(hub: Hub, name: str = "ada") -> dict[str, str]:
    headers = hub.headers(name)
    with hub.database.writing() as session:
        session.execute(update(Account).where(Account.name == name).values(is_admin=True))
    return headers


def test_the_record_says_who_has_done_what(hub: Hub) -> None:
    hub.register_base()
    hub.found("acme", max="maintainer")
    max_ = hub.headers("max")
    olga = hub.headers("olga")
    pushed = hub.push(make_archive(), "topics", user="acme", headers=max_).json()
    hub.client.patch("/api/v1/adapters/acme/topics", json={"visibility": "private"}, headers=max_)
    hub.client.put("/api/v1/orgs/acme/members/max", json={"role": "reader"}, headers=olga)
    hub.post("/orgs/acme/invitations", {"user": "demo", "role": "reader"}, olga)
    hub.client.delete("/api/v1/orgs/acme/invitations/demo", headers=olga)
    hub.client.delete("/api/v1/orgs/acme/members/max", headers=olga)

    found = events(hub, "acme", "olga")

    assert [(each["actor"], each["action"], each["subject"]) for each in reversed(found)] == [
        ("olga", "organisation.created", "acme"),
        ("olga", "invitation.made", "acme"),
        ("max", "member.joined", "acme"),
        ("max", "version.pushed", "acme/topics@v1"),
        ("max", "adapter.visibility-changed", "acme/topics"),
        ("olga", "member.role-changed", "acme"),
        ("olga", "invitation.made", "acme"),
        ("olga", "invitation.withdrawn", "acme"),
        ("olga", "member.removed", "acme"),
    ]
    facts = [each["facts"] for each in reversed(found)]
    assert facts[3] == {"digest": pushed["digest"], "visibility": "public", "is_new_adapter": True}
    assert facts[5] == {"user": "max", "from": "maintainer", "to": "reader"}
    assert broken(hub) == []


def test_tokens_are_recorded_and_their_secrets_are_not(hub: Hub) -> None:
    made = hub.post("/tokens", {"name": "ci", "scopes": ["repo:push"]}, hub.headers("demo")).json()
    hub.client.delete(f"/api/v1/tokens/{made['id']}", headers=hub.headers("demo"))

    revoked, created = events(hub, "demo", "demo")

    assert (created["action"], revoked["action"]) == ("token.created", "token.revoked")
    assert created["facts"]["last4"] == made["last4"] == revoked["facts"]["last4"]
    assert made["token"] not in json.dumps([revoked, created])


def test_what_changes_nothing_or_fails_is_not_recorded(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive())
    before = events(hub, "demo", "demo")

    assert hub.push(make_archive()).status_code == 200
    assert hub.push(make_archive(seed=5), "t1ny").status_code == 409
    hub.client.patch("/api/v1/adapters/demo/tiny", json={"visibility": "public"}, headers=hub.headers("demo"))

    assert events(hub, "demo", "demo") == before


def test_the_record_of_one_adapter_is_that_of_the_adapter(hub: Hub) -> None:
    hub.register_base()
    for seed, name in enumerate(["one", "two", "one"]):
        assert hub.push(make_archive(seed=seed), name).status_code == 201

    assert [each["subject"] for each in events(hub, "demo", "demo", adapter="one")] == ["demo/one@v2", "demo/one@v1"]


def test_a_name_with_a_stroke_is_recorded_whole(hub: Hub) -> None:
    hub.register_base(name=f"org/{'b' * 150}")
    heard = hub.get("/audit", headers=make_admin(hub)).json()["items"]
    assert ("base.registered", f"org/{'b' * 150}") in [(event["action"], event["subject"]) for event in heard]


def test_the_record_is_for_owners_and_admins(hub: Hub) -> None:
    hub.found("acme", max="maintainer")
    for user in ("max", "sam"):
        refused = hub.get("/namespaces/acme/audit", headers=hub.headers(user))
        assert code_of(refused) == (403, "FORBIDDEN")
    assert code_of(hub.get("/namespaces/acme/audit")) == (401, "TOKEN_MISSING")
    assert code_of(hub.get("/audit", headers=hub.headers("olga"))) == (403, "ADMIN_ONLY")

    ada = make_admin(hub)
    assert hub.get("/namespaces/acme/audit", headers=ada).status_code == 200
    hub.register_base()
    hub.post("/users", {"name": "nia"}, ada)
    assert [(each["action"], each["subject"]) for each in hub.get("/audit", headers=ada).json()["items"]] == [
        ("user.created", "nia"),
        ("base.registered", BASE_NAME),
    ]


def test_a_record_is_read_page_by_page(hub: Hub) -> None:
    hub.register_base()
    for seed in range(5):
        hub.push(make_archive(seed=seed))
    first = hub.get("/namespaces/demo/audit?limit=3", headers=hub.headers("demo")).json()
    rest = hub.get(f"/namespaces/demo/audit?limit=3&cursor={first['next']}", headers=hub.headers("demo")).json()

    assert [each["number"] for each in first["items"] + rest["items"]] == [5, 4, 3, 2, 1]
    assert rest["next"] is None


def test_the_hash_is_what_the_documentation_says(hub: Hub) -> None:
    hub.found("acme")
    (event,) = events(hub, "acme", "olga")
    claimed = event.pop("hash")
    if "." not in str(event["at"]):
        event["at"] = str(event["at"]).replace("Z", ".000000Z")

    assert event["previous"] == "0" * 64
    assert claimed == hashlib.sha256(json.dumps(event, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.mark.parametrize(
    "spoil",
    [
        update(AuditEvent).where(AuditEvent.number == 2).values(actor="eve"),
        update(AuditEvent).where(AuditEvent.number == 2).values(facts={}),
        delete(AuditEvent).where(AuditEvent.number == 2),
        delete(AuditEvent).where(AuditEvent.number == 3),
    ],
    ids=["another actor", "other facts", "one taken out", "the last taken out"],
)
def test_a_change_of_the_record_is_found(sqlite_hub: Hub, spoil: object) -> None:
    sqlite_hub.found("acme", max="maintainer")
    assert broken(sqlite_hub) == []

    with sqlite_hub.database.writing() as session:
        session.execute(spoil)

    assert len(broken(sqlite_hub)) == 1


def test_pushes_at_once_make_one_chain(hub: Hub) -> None:
    hub.register_base()
    headers = hub.headers("demo")

    def push(seed: int) -> int:
        return hub.push(make_archive(seed=seed), f"adapter-{seed}", headers=headers).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(push, range(16))) == {201}

    assert [each["number"] for each in events(hub, "demo", "demo")] == list(range(16, 0, -1))
    assert broken(hub) == []
