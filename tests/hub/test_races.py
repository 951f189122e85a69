"""Two at once: what one has begun is ended before the other looks, so that neither undoes what the other was told.

Each test has one transaction open, lets another request come as far as it can, and then commits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from hub.auth.policy import Principal, Role
from hub.db.models.accounts import Account
from hub.domain import accounts, organisations, publishing, uploads
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of
from tests.hub.postgres import wait_for_a_lock


def test_who_reads_sees_one_moment_and_who_begins_later_what_came_since(hub: Hub) -> None:
    def names(session: Session) -> int:
        return session.query(Account).count()

    with hub.database.reading() as session:
        before = names(session)
        with hub.database.writing() as other:
            accounts.ensure_user(other, "late")
        assert names(session) == before
    with hub.database.reading() as session:
        assert names(session) == before + 1


def principal(hub: Hub, user: str) -> Principal:
    token = hub.token(user)
    with hub.database.reading() as session:
        return accounts.authenticate(session, token).principal


@contextmanager
def while_another_waits(hub: Hub, ask: Callable[[], Any], answers: list[Any]) -> Iterator[Session]:
    """A transaction that is committed once `ask`, begun at the end of the block, waits for it. What `ask` gives is
    then in `answers`."""
    with ThreadPoolExecutor(1) as other:
        with hub.database.writing() as session:
            yield session
            asking = other.submit(ask)
            wait_for_a_lock(hub.database)
        answers.append(asking.result())


@pytest.fixture
def acme(hub: Hub) -> Hub:
    """acme, of olga and oscar; nina is not in it."""
    hub.found("acme", oscar="owner")
    hub.token("nina")
    return hub


def test_of_two_invitations_of_one_user_the_later_counts(acme: Hub) -> None:
    olga, headers, answers = principal(acme, "olga"), acme.headers("oscar"), []
    invitation = {"user": "nina", "role": "publisher"}

    with while_another_waits(
        acme, lambda: acme.post("/orgs/acme/invitations", invitation, headers), answers
    ) as session:
        organisations.invite(session, olga, "acme", "nina", Role.READER)

    assert answers[0].status_code == 201
    invited = acme.get("/invitations", headers=acme.headers("nina")).json()["items"]
    assert [each["role"] for each in invited] == ["publisher"]


def test_nothing_is_pushed_into_an_organisation_that_is_being_deleted(acme: Hub) -> None:
    acme.register_base()
    olga, headers, answers = principal(acme, "olga"), acme.headers("olga"), []

    with while_another_waits(acme, lambda: acme.push(make_archive(), user="acme", headers=headers), answers) as session:
        organisations.delete(session, olga, "acme")

    assert not answers[0].is_success
    assert acme.contents["adapters"] == 0


def test_who_joins_while_being_deleted_is_no_owner_who_lets_the_last_one_go(hub: Hub) -> None:
    hub.found("acme")
    eve, olga, answers = principal(hub, "eve"), hub.headers("olga"), []
    assert hub.post("/orgs/acme/invitations", {"user": "eve", "role": "owner"}, olga).status_code == 201
    admin = hub.headers("ada")
    with hub.database.writing() as session:
        session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))

    with while_another_waits(hub, lambda: hub.delete("/users/eve", admin), answers) as session:
        organisations.accept(session, eve, "acme")

    assert answers[0].status_code == 204
    assert code_of(hub.delete("/orgs/acme/members/olga", olga)) == (409, "LAST_OWNER")


def test_a_score_that_comes_while_a_version_is_pushed_is_not_listed_as_that_ones(hub: Hub) -> None:
    hub.register_base()
    worker = hub.worker()
    hub.push(make_archive(seed=1))
    job, demo, answers = worker.must_claim(), principal(hub, "demo"), []
    upload = uploads.check_upload(make_archive(seed=2).files)

    with while_another_waits(hub, lambda: worker.finish(job), answers) as session:
        publishing.publish_version(session, demo, upload, namespace="demo", name="tiny")

    assert answers[0].status_code == 204
    assert hub.get(f"/evaluations/{job['id']}").json()["state"] == "done"
    assert hub.get("/adapters", params={"suite": job["suite"], "sort": "score"}).json()["items"] == []
