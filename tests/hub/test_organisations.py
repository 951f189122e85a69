"""Organisations: founding, inviting, leaving, and adapters that belong to one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from hub.db.models.accounts import Invitation
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of


def members_of(hub: Hub, organisation: str = "acme", who: str = "olga") -> dict[str, str]:
    answer = hub.get(f"/orgs/{organisation}/members", headers=hub.headers(who))
    assert answer.status_code == 200, answer.text
    return {member["user"]: member["role"] for member in answer.json()["items"]}


def test_who_founds_an_organisation_owns_it(hub: Hub) -> None:
    hub.found("acme", rita="reader")

    assert members_of(hub) == {"olga": "owner", "rita": "reader"}
    assert hub.get("/orgs/acme").json()["role"] is None
    assert hub.get("/orgs/acme", headers=hub.headers("rita")).json()["role"] == "reader"
    assert [each["name"] for each in hub.get("/orgs", headers=hub.headers("rita")).json()["items"]] == ["acme"]
    assert hub.get("/whoami", headers=hub.headers("rita")).json()["organisations"] == [
        {"name": "acme", "role": "reader"}
    ]


def test_a_name_is_given_once(hub: Hub) -> None:
    hub.found("acme")
    hub.headers("ann")

    for name in ("acme", "ann"):
        assert code_of(hub.post("/orgs", {"name": name}, hub.headers("sam"))) == (409, "NAME_TAKEN")


@pytest.mark.parametrize("name", ["api", "Acme", "a/b", "", "-acme"])
def test_a_name_that_cannot_be_one_is_refused(sqlite_hub: Hub, name: str) -> None:
    assert sqlite_hub.post("/orgs", {"name": name}, sqlite_hub.headers("sam")).status_code == 422


def test_an_organisation_has_adapters_of_its_own(hub: Hub) -> None:
    hub.found("acme", pia="publisher", max="maintainer")
    hub.register_base()

    first = hub.push(make_archive(seed=1), user="acme", headers=hub.headers("max"))
    second = hub.push(make_archive(seed=2), user="acme", headers=hub.headers("pia"))

    assert (first.status_code, first.json()["ref"]) == (201, "acme/tiny@v1")
    assert (second.status_code, second.json()["ref"], second.json()["created_by"]) == (201, "acme/tiny@v2", "pia")


def test_a_publisher_makes_versions_and_no_names(hub: Hub) -> None:
    hub.found("acme", pia="publisher")
    hub.register_base()
    before = hub.contents

    answer = hub.push(make_archive(), "fresh", user="acme", headers=hub.headers("pia"))

    assert code_of(answer) == (403, "FORBIDDEN")
    assert hub.contents == before


def test_an_invitation_is_answered_once(hub: Hub) -> None:
    hub.found("acme")
    ann, olga = hub.headers("ann"), hub.headers("olga")
    hub.post("/orgs/acme/invitations", {"user": "ann", "role": "reader"}, olga)
    again = hub.post("/orgs/acme/invitations", {"user": "ann", "role": "maintainer"}, olga)
    assert (again.json()["role"], again.json()["invited_by"]) == ("maintainer", "olga")
    assert [each["organisation"] for each in hub.get("/invitations", headers=ann).json()["items"]] == ["acme"]

    assert hub.post("/invitations/acme/accept", {}, ann).json()["role"] == "maintainer"
    assert code_of(hub.post("/invitations/acme/accept", {}, ann)) == (404, "INVITATION_UNKNOWN")
    assert code_of(hub.post("/orgs/acme/invitations", {"user": "ann", "role": "owner"}, olga)) == (
        409,
        "MEMBER_ALREADY",
    )


def test_an_invitation_is_declined_withdrawn_or_expires(hub: Hub) -> None:
    hub.found("acme")
    olga = hub.headers("olga")
    for user in ("ann", "bob", "cid"):
        hub.headers(user)
        assert hub.post("/orgs/acme/invitations", {"user": user, "role": "reader"}, olga).status_code == 201

    assert hub.post("/invitations/acme/decline", {}, hub.headers("ann")).status_code == 204
    assert hub.client.delete("/api/v1/orgs/acme/invitations/bob", headers=olga).status_code == 204
    with hub.database.writing() as session:
        session.execute(update(Invitation).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))

    for user in ("ann", "bob", "cid"):
        refused = hub.post("/invitations/acme/accept", {}, hub.headers(user))
        assert code_of(refused) == (404, "INVITATION_UNKNOWN"), user
    assert members_of(hub) == {"olga": "owner"}


def test_nobody_is_invited_who_is_not_there(sqlite_hub: Hub) -> None:
    sqlite_hub.found("acme")
    answer = sqlite_hub.post("/orgs/acme/invitations", {"user": "ghost", "role": "reader"}, sqlite_hub.headers("olga"))
    assert code_of(answer) == (404, "USER_UNKNOWN")


def test_the_last_owner_stays(hub: Hub) -> None:
    hub.found("acme", ann="owner")
    olga = hub.headers("olga")
    assert hub.client.delete("/api/v1/orgs/acme/members/ann", headers=olga).status_code == 204

    leaving = hub.client.delete("/api/v1/orgs/acme/members/olga", headers=olga)
    yielding = hub.client.put("/api/v1/orgs/acme/members/olga", json={"role": "reader"}, headers=olga)

    assert code_of(leaving) == code_of(yielding) == (409, "LAST_OWNER")
    assert members_of(hub) == {"olga": "owner"}


def test_who_leaves_or_is_made_less_may_less_from_the_next_request_on(hub: Hub) -> None:
    hub.found("acme", max="maintainer", rita="reader")
    hub.register_base()
    theirs, olga = hub.headers("max"), hub.headers("olga")
    assert hub.push(make_archive(seed=1), user="acme", headers=theirs, visibility="private").status_code == 201

    hub.client.put("/api/v1/orgs/acme/members/max", json={"role": "reader"}, headers=olga)
    assert code_of(hub.push(make_archive(seed=2), user="acme", headers=theirs)) == (403, "FORBIDDEN")
    assert hub.get("/adapters/acme/tiny", headers=theirs).status_code == 200

    assert hub.client.delete("/api/v1/orgs/acme/members/max", headers=theirs).status_code == 204
    assert code_of(hub.get("/adapters/acme/tiny", headers=theirs)) == (404, "ADAPTER_UNKNOWN")


def test_an_organisation_is_deleted_when_empty_and_its_name_with_it(hub: Hub) -> None:
    hub.found("acme")
    hub.found("full")
    hub.register_base()
    olga = hub.headers("olga")
    hub.push(make_archive(), user="full", headers=olga)

    assert code_of(hub.client.delete("/api/v1/orgs/full", headers=olga)) == (409, "ORGANISATION_NOT_EMPTY")
    assert hub.client.delete("/api/v1/orgs/acme", headers=olga).status_code == 204

    assert code_of(hub.get("/orgs/acme")) == (404, "ORGANISATION_UNKNOWN")
    assert code_of(hub.post("/orgs", {"name": "acme"}, hub.headers("sam"))) == (409, "NAME_TAKEN")
    assert code_of(hub.push(make_archive(), user="acme", headers=olga)) == (403, "FORBIDDEN")


def test_visibility_is_set_by_the_first_push_and_changed_by_a_maintainer(hub: Hub) -> None:
    hub.register_base()
    mine = hub.headers("demo")
    assert hub.push(make_archive(seed=1), "a").status_code == 201
    assert hub.push(make_archive(seed=2), "b", visibility="private").status_code == 201
    shown = {each["name"]: each["visibility"] for each in hub.get("/adapters", headers=mine).json()["items"]}
    assert shown == {"a": "public", "b": "private"}

    before = hub.contents
    assert code_of(hub.push(make_archive(seed=3), "a", visibility="private")) == (409, "VISIBILITY_DIFFERS")
    assert hub.contents == before
    assert hub.push(make_archive(seed=3), "b").status_code == 201

    changed = hub.client.patch("/api/v1/adapters/demo/b", json={"visibility": "public"}, headers=mine)
    assert changed.json()["visibility"] == "public"
    assert hub.get("/adapters/demo/b").status_code == 200


def test_a_visibility_that_is_none_is_refused(sqlite_hub: Hub) -> None:
    sqlite_hub.register_base()
    assert code_of(sqlite_hub.push(make_archive(), visibility="secret")) == (422, "VISIBILITY_INVALID")
