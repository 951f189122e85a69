"""Tokens that people make: never more than their maker, shown once, gone when revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.auth.policy import LOGIN_SCOPES, SERVICE_SCOPES
from hub.auth.tokens import TokenKind, is_well_formed
from hub.domain import accounts
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of


def made(hub: Hub, headers: dict[str, str], **body: object) -> dict[str, Any]:
    answer = hub.post("/tokens", {"name": "ci", **body}, headers)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def bearer(token: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {token['token']}"}


def test_a_token_is_made_listed_used_and_revoked(hub: Hub) -> None:
    ann = hub.headers("ann")
    token = made(hub, ann, scopes=["repo:push"], expires_in_days=30)

    assert is_well_formed(token["token"])
    lasts = datetime.fromisoformat(token["expires_at"]) - datetime.now(UTC)
    assert 29 <= lasts.days <= 30
    assert hub.get("/whoami", headers=bearer(token)).json()["scopes"] == ["repo:push", "repo:read"]
    listed, mine = hub.get("/tokens", headers=ann).json()["items"]
    assert (listed["id"], listed["name"], listed["last4"]) == (token["id"], "ci", token["token"][-4:])
    assert (listed["last_used_at"] is not None, mine["is_current"]) == (True, True)
    assert token["token"] not in hub.get("/tokens", headers=ann).text

    assert hub.client.delete(f"/api/v1/tokens/{token['id']}", headers=ann).status_code == 204
    assert code_of(hub.get("/whoami", headers=bearer(token))) == (401, "TOKEN_INVALID")
    assert [each["id"] for each in hub.get("/tokens", headers=ann).json()["items"]] == [mine["id"]]


def test_a_token_for_one_adapter_joins_and_founds_no_organisation(hub: Hub) -> None:
    hub.found("acme")
    ann = hub.headers("ann")
    token = bearer(made(hub, ann, scopes=["repo:push", "org:admin"], restricted_to=["ann/one"]))
    assert hub.post("/orgs/acme/invitations", {"user": "ann", "role": "owner"}, hub.headers("olga")).status_code == 201

    for address, body in (
        ("/orgs", {"name": "mine"}),
        ("/invitations/acme/accept", {}),
        ("/invitations/acme/decline", {}),
    ):
        assert code_of(hub.post(address, body, token)) == (403, "TOKEN_RESTRICTED")

    assert hub.post("/invitations/acme/accept", {}, ann).status_code == 200


def test_a_token_makes_no_tokens_and_no_admins(sqlite_hub: Hub) -> None:
    ann = sqlite_hub.headers("ann")
    token = made(sqlite_hub, ann, scopes=["repo:push", "org:admin"])

    assert code_of(sqlite_hub.post("/tokens", {"name": "more"}, bearer(token))) == (403, "SCOPE_INSUFFICIENT")
    for scope in ("token:manage", "admin", "eval:lease"):
        refused = sqlite_hub.post("/tokens", {"name": "x", "scopes": ["repo:read", scope]}, ann)
        assert code_of(refused) == (403, "SCOPE_INSUFFICIENT"), scope


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"scopes": []}, 422, "SCOPE_UNKNOWN"),
        ({"scopes": ["repo:all"]}, 422, "SCOPE_UNKNOWN"),
        ({"scopes": ["repo:read"], "expires_in_days": 366}, 422, "BODY_INVALID"),
        ({"scopes": ["repo:read"], "expires_in_days": 0}, 422, "BODY_INVALID"),
        ({"scopes": ["repo:read"], "restricted_to": []}, 422, "BODY_INVALID"),
        ({"scopes": ["repo:read"], "restricted_to": ["Not A Name"]}, 422, "NAME_INVALID"),
        ({"scopes": ["repo:read"], "restricted_to": ["bob"]}, 403, "TOKEN_RESTRICTED"),
        ({"scopes": ["repo:read"], "organisation": "acme"}, 403, "FORBIDDEN"),
        ({"for_worker": True}, 403, "ADMIN_ONLY"),
    ],
)
def test_a_token_that_cannot_be_is_not_made(sqlite_hub: Hub, body: dict[str, object], status: int, code: str) -> None:
    sqlite_hub.found("acme")
    assert code_of(sqlite_hub.post("/tokens", {"name": "ci", **body}, sqlite_hub.headers("ann"))) == (status, code)


def test_a_restricted_token_pushes_one_adapter_and_sees_nothing_else_that_is_private(hub: Hub) -> None:
    hub.register_base()
    ann = hub.headers("ann")
    for seed, name in enumerate(("one", "two")):
        assert hub.push(make_archive(seed=seed), name, user="ann", headers=ann, visibility="private").status_code == 201
    token = bearer(made(hub, ann, scopes=["repo:push"], restricted_to=["ann/one"]))

    assert hub.push(make_archive(seed=5), "one", user="ann", headers=token).status_code == 201
    assert code_of(hub.push(make_archive(seed=6), "two", user="ann", headers=token)) == (403, "TOKEN_RESTRICTED")
    assert [each["name"] for each in hub.get("/adapters", headers=token).json()["items"]] == ["one"]
    assert code_of(hub.get("/adapters/ann/two", headers=token)) == (404, "ADAPTER_UNKNOWN")


def test_an_organisation_has_tokens_for_its_programs(hub: Hub) -> None:
    hub.found("acme", max="maintainer")
    hub.register_base()
    olga = hub.headers("olga")
    token = made(hub, olga, scopes=["repo:push"], organisation="acme")
    program = bearer(token)

    assert token["token"].startswith("vhc_")
    assert hub.get("/whoami", headers=program).json()["kind"] == "organisation"
    pushed = hub.push(make_archive(), user="acme", headers=program)
    assert (pushed.status_code, pushed.json()["created_by"]) == (201, "acme")
    (listed,) = hub.get("/tokens?organisation=acme", headers=olga).json()["items"]
    assert (listed["kind"], listed["account"], listed["created_by"]) == ("service", "acme", "olga")

    theirs = hub.headers("max")
    assert code_of(hub.get("/tokens?organisation=acme", headers=theirs)) == (403, "FORBIDDEN")
    gone = f"/api/v1/tokens/{token['id']}"
    assert code_of(hub.client.delete(gone, headers=theirs)) == (404, "TOKEN_UNKNOWN")
    assert hub.client.delete(gone, headers=olga).status_code == 204
    assert hub.get("/whoami", headers=program).status_code == 401


def test_the_program_of_an_organisation_manages_neither_members_nor_tokens(sqlite_hub: Hub) -> None:
    sqlite_hub.found("acme")
    olga = sqlite_hub.headers("olga")
    for scope in sorted(set(LOGIN_SCOPES) - SERVICE_SCOPES):
        refused = sqlite_hub.post("/tokens", {"name": "x", "scopes": [scope], "organisation": "acme"}, olga)
        assert code_of(refused) == (403, "SCOPE_INSUFFICIENT"), scope


def test_a_token_of_an_organisation_reaches_nothing_beside_it(sqlite_hub: Hub) -> None:
    sqlite_hub.found("acme")
    olga = sqlite_hub.headers("olga")
    body: dict[str, object] = {"name": "ci", "scopes": ["repo:push"], "organisation": "acme"}

    for elsewhere in ("olga", "olga/tiny"):
        refused = sqlite_hub.post("/tokens", {**body, "restricted_to": ["acme/tiny", elsewhere]}, olga)
        assert code_of(refused) == (403, "TOKEN_RESTRICTED"), elsewhere
    assert made(sqlite_hub, olga, **{**body, "restricted_to": ["acme/tiny"]})["restricted_to"] == ["acme/tiny"]


def test_what_cannot_be_used_is_not_listed(sqlite_hub: Hub) -> None:
    mine = sqlite_hub.headers("ann")
    with sqlite_hub.database.writing() as session:
        ann = accounts.ensure_user(session, "ann")
        accounts.add_token(session, ann, TokenKind.BOOTSTRAP, name="the hub's own")
        accounts.add_token(session, ann, TokenKind.PERSONAL, name="expired", lifetime=timedelta(seconds=-1))

    (listed,) = sqlite_hub.get("/tokens", headers=mine).json()["items"]
    assert listed["is_current"]


def test_a_token_ends_itself(sqlite_hub: Hub) -> None:
    for kind in (TokenKind.PERSONAL, TokenKind.WORKER):
        headers = sqlite_hub.headers("ann", kind)
        assert sqlite_hub.client.delete("/api/v1/tokens/current", headers=headers).status_code == 204
        assert sqlite_hub.get("/whoami", headers=headers).status_code == 401


def test_the_token_of_another_is_not_there(sqlite_hub: Hub) -> None:
    token = made(sqlite_hub, sqlite_hub.headers("ann"), scopes=["repo:read"])

    for token_id in (token["id"], "0", "x", "9" * 30):
        answer = sqlite_hub.client.delete(f"/api/v1/tokens/{token_id}", headers=sqlite_hub.headers("bob"))
        assert code_of(answer) == (404, "TOKEN_UNKNOWN")
    assert sqlite_hub.get("/whoami", headers=bearer(token)).status_code == 200


@pytest.mark.parametrize("address", ["/adapters?search={}", "/adapters/demo/{}", "/whoami?token=%76{rest}"])
def test_a_token_in_an_address_is_refused_and_not_repeated(sqlite_hub: Hub, address: str) -> None:
    token = sqlite_hub.token()

    answer = sqlite_hub.get(address.format(token, rest=token[1:]))

    assert code_of(answer) == (400, "TOKEN_IN_URL")
    assert token not in answer.text
