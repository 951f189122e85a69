"""Requests with an Idempotency-Key: done once, answered as often as they come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from httpx2 import Response
from sqlalchemy import func, select, update

from hub.care.collecting import collect
from hub.db.models.accounts import KeptAnswer, Token
from hub.db.models.record import AuditEvent
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of

TOKEN = {"name": "ci", "scopes": ["repo:push"]}


def keyed(headers: dict[str, str], key: str = '"first"') -> dict[str, str]:
    return {**headers, "Idempotency-Key": key}


def tokens_called(hub: Hub, name: str) -> int:
    with hub.database.reading() as session:
        return session.scalar(select(func.count()).select_from(Token).where(Token.name == name)) or 0


def test_a_token_asked_for_twice_with_one_key_is_made_once_and_shown_twice(hub: Hub) -> None:
    ann = hub.headers("ann")
    first, again = (hub.post("/tokens", TOKEN, keyed(ann)) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert (again.json(), again.headers["etag"]) == (first.json(), first.headers["etag"])
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["cache-control"] == "private, no-store"
    assert tokens_called(hub, "ci") == 1
    assert hub.post("/tokens", TOKEN, keyed(ann, '"second"')).json()["id"] != first.json()["id"]


def test_what_is_kept_of_an_answer_shows_no_secret(hub: Hub) -> None:
    ann = hub.headers("ann")
    secret = hub.post("/tokens", TOKEN, keyed(ann, '"a-key-of-anns"')).json()["token"]

    with hub.database.reading() as session:
        kept = session.scalars(select(KeptAnswer)).one()
    stored = repr(vars(kept)).encode() + kept.sealed
    for hidden in (secret, secret[:20], "a-key-of-anns", '"name"', ann["Authorization"]):
        assert hidden.encode() not in stored
    assert kept.asked == "POST /api/v1/tokens"


@pytest.mark.parametrize(
    ("path", "body"),
    [("/tokens", {**TOKEN, "name": "other"}), ("/orgs", {"name": "acme"})],
    ids=["body", "path"],
)
def test_a_key_that_comes_with_another_request_is_refused_with_both(hub: Hub, path: str, body: object) -> None:
    ann = hub.headers("ann")
    assert hub.post("/tokens", TOKEN, keyed(ann)).status_code == 201

    refused = hub.post(path, body, keyed(ann))

    assert code_of(refused) == (422, "IDEMPOTENCY_KEY_REUSED")
    facts = refused.json()["facts"]
    assert facts["expected"]["request"] == "POST /api/v1/tokens"
    assert facts["got"]["request"] == f"POST /api/v1{path.partition('?')[0]}"
    assert facts["expected"]["fingerprint"] != facts["got"]["fingerprint"]
    assert (tokens_called(hub, "ci"), tokens_called(hub, "other")) == (1, 0)


def test_a_key_that_comes_with_another_query_is_refused(hub: Hub) -> None:
    hub.register_base()
    hub.push(make_archive())
    version, headers = "/adapters/demo/tiny/versions/v1", keyed(hub.headers())

    assert hub.delete(f"{version}?reason=one", headers).status_code == 204

    assert code_of(hub.delete(f"{version}?reason=another", headers)) == (422, "IDEMPOTENCY_KEY_REUSED")
    assert hub.delete(f"{version}?reason=one", headers).status_code == 204


def test_a_key_means_nothing_to_anybody_else(hub: Hub) -> None:
    answers = [hub.post("/tokens", TOKEN, keyed(hub.headers(user))) for user in ("ann", "bob", "ann")]

    assert len({answer.json()["token"] for answer in answers}) == 3  # a third token of ann's is not her first


def test_what_was_refused_is_not_kept(hub: Hub) -> None:
    ann, olga = hub.headers("ann"), hub.headers("olga")
    asked = {"name": "acme", "scopes": ["repo:read"], "restricted_to": ["acme"]}
    assert code_of(hub.post("/tokens", asked, keyed(olga))) == (403, "TOKEN_RESTRICTED")

    hub.found("acme")  # and now olga has that namespace

    assert hub.post("/tokens", asked, keyed(olga)).status_code == 201
    assert code_of(hub.post("/tokens", asked, keyed(ann))) == (403, "TOKEN_RESTRICTED")


def test_what_answers_nothing_and_what_is_not_there_any_more_is_answered_again(hub: Hub) -> None:
    ann = hub.headers("ann")
    token = hub.post("/tokens", TOKEN, ann).json()["id"]
    first, again = (hub.client.delete(f"/api/v1/tokens/{token}", headers=keyed(ann)) for _ in range(2))

    assert (first.status_code, again.status_code, again.content) == (204, 204, b"")
    assert code_of(hub.client.delete(f"/api/v1/tokens/{token}", headers=ann)) == (404, "TOKEN_UNKNOWN")


def test_a_conditional_write_whose_answer_was_lost_is_not_refused_for_its_own_change(hub: Hub) -> None:
    hub.register_base()
    ann = hub.headers("ann")
    assert hub.push(make_archive(), "tiny", user="ann").status_code == 201
    path, body = "/adapters/ann/tiny/aliases/prod", {"version": "v1"}
    new = {**keyed(ann), "If-None-Match": "*"}

    first, again = (hub.put(path, body, new) for _ in range(2))

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert code_of(hub.put(path, body, {**ann, "If-None-Match": "*"})) == (412, "ALIAS_CHANGED")
    # The condition is a part of the request.
    assert code_of(hub.put(path, body, keyed(ann))) == (422, "IDEMPOTENCY_KEY_REUSED")


def test_of_those_who_come_at_once_one_is_worked_for(hub: Hub) -> None:
    ann = hub.headers("ann")

    def ask(_: int) -> Response:
        return hub.post("/tokens", TOKEN, keyed(ann))

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["token"] for answer in answers}) == 1
    assert tokens_called(hub, "ci") == 1


def test_after_a_day_a_key_is_as_good_as_new_and_gc_takes_it_away(hub: Hub) -> None:
    ann, bob = hub.headers("ann"), hub.headers("bob")
    first = hub.post("/tokens", TOKEN, keyed(ann)).json()
    assert hub.post("/tokens", TOKEN, keyed(bob)).status_code == 201
    with hub.database.writing() as session:
        session.execute(update(KeptAnswer).values(created_at=datetime.now(UTC) - timedelta(hours=24, minutes=1)))

    later = hub.post("/tokens", {**TOKEN, "name": "later"}, keyed(ann))

    assert (later.status_code, later.json()["id"] != first["id"]) == (201, True)
    collect(hub.database, None)
    with hub.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(KeptAnswer)) == 1  # that of `later`


def test_a_revoked_token_gets_no_answer_again(hub: Hub) -> None:
    ann = hub.headers("ann")
    assert hub.post("/tokens", TOKEN, keyed(ann)).status_code == 201
    hub.change_tokens(revoked_at=datetime.now(UTC))

    assert code_of(hub.post("/tokens", TOKEN, keyed(ann))) == (401, "TOKEN_INVALID")


@pytest.mark.parametrize("key", ["", '""', '"a"b"', "two words", f'"{"x" * 201}"', '"ä"'.encode("latin-1")])
def test_a_key_that_is_none_is_refused(sqlite_hub: Hub, key: str) -> None:
    ann = sqlite_hub.headers("ann")
    assert code_of(sqlite_hub.post("/tokens", TOKEN, keyed(ann, key))) == (400, "HEADER_INVALID")
    assert tokens_called(sqlite_hub, "ci") == 0


def test_the_record_has_the_change_once(hub: Hub) -> None:
    ann = hub.headers("ann")
    for _ in range(3):
        assert hub.post("/orgs", {"name": "acme"}, keyed(ann)).status_code == 201

    with hub.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(AuditEvent)) == 1
