"""A way in for an admin who has none: from the hub's machine only."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from sqlalchemy import select, update

from hub.care.recovering import recover
from hub.cli.admin import admin
from hub.db.models.accounts import Account
from hub.db.models.record import AuditEvent
from hub.errors import Conflict, NotFound
from tests.hub.harness import Hub, code_of

OLD, NEW = "the password that was lost", "a password to keep this time"


@pytest.fixture
def ada(hub: Hub) -> dict[str, str]:
    """The only admin, with a password."""
    headers = hub.headers("ada")
    with hub.database.writing() as session:
        session.execute(update(Account).where(Account.name == "ada").values(is_admin=True))
    assert hub.put("/password", {"old": None, "new": OLD}, headers).status_code == 204
    return headers


def sign_in(hub: Hub, password: str) -> tuple[int, str]:
    answer = hub.client.post("/api/v1/login/password", json={"user": "ada", "password": password})
    return (201, "") if answer.status_code == 201 else code_of(answer)


def test_an_admin_without_a_password_gets_a_code_and_sets_a_new_one(hub: Hub, ada: dict[str, str]) -> None:
    made = recover(hub.database)

    assert made.user == "ada"
    assert sign_in(hub, OLD) == (401, "PASSWORD_WRONG")
    code = {"Authorization": f"Bearer {made.code}"}
    login = hub.post("/login", {"user": None, "password": NEW}, code)
    assert (login.status_code, login.json()["is_admin"]) == (201, True)
    assert code_of(hub.post("/login", {"user": None, "password": NEW}, code)) == (401, "TOKEN_INVALID")
    assert sign_in(hub, NEW) == (201, "")
    assert hub.get("/whoami", headers=ada).status_code == 200  # a lost password is no lost token
    with hub.database.reading() as session:
        event = session.scalars(select(AuditEvent).where(AuditEvent.action == "user.code-made")).one()
    assert (event.actor, event.subject, event.facts["recovered"]) == ("admin recover", "ada", True)


def test_whoever_may_have_a_token_of_theirs_is_shut_out_where_that_is_said(hub: Hub, ada: dict[str, str]) -> None:
    made = recover(hub.database, "ada", ends_tokens=True)

    assert code_of(hub.get("/whoami", headers=ada)) == (401, "TOKEN_INVALID")
    assert hub.post("/login", {}, {"Authorization": f"Bearer {made.code}"}).status_code == 201


def test_who_is_let_in_must_be_plain(hub: Hub, ada: dict[str, str]) -> None:
    hub.headers("bob")

    with pytest.raises(NotFound, match="no user eve"):
        recover(hub.database, "eve")
    with pytest.raises(Conflict, match="bob is no admin here"):
        recover(hub.database, "bob")
    assert sign_in(hub, OLD) == (201, "")

    assert recover(hub.database, "bob", makes_admin=True).user == "bob"
    with pytest.raises(Conflict, match="2 admins: ada, bob"):
        recover(hub.database)


def test_an_operator_recovers_with_a_command(sqlite_hub: Hub) -> None:
    data = str(sqlite_hub.app.state.services.settings.data_dir)
    sqlite_hub.headers("ann")

    refused = CliRunner().invoke(admin, ["recover", "--data", data])
    assert (refused.exit_code, "no admins" in refused.output) == (1, True)

    done = CliRunner().invoke(admin, ["recover", "ann", "--make-admin", "--data", data])
    assert done.exit_code == 0, done.output
    login = sqlite_hub.post("/login", {}, {"Authorization": f"Bearer {done.stdout.strip()}"})
    assert (login.json()["user"], login.json()["is_admin"]) == ("ann", True)
