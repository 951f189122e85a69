"""The first admin, the users they make, and signing in."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hub.access.limits import Failures
from hub.auth.passwords import MIN_CHARACTERS
from hub.auth.tokens import TokenKind
from hub.cli import profile
from hub.cli.serving import open_local_account
from hub.db.queries import tokens as token_rows
from hub.domain import accounts, users
from hub.errors import TooMany
from hub.settings import Settings
from tests.hub.harness import Hub, code_of
from tests.signing import shown

PASSWORD = "correct horse battery"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def bootstrap(hub: Hub) -> str:
    with hub.database.writing() as session:
        code = users.offer_bootstrap(session, accounts.ensure_user(session, "local"))
    assert code is not None
    return code


@pytest.fixture
def admin(sqlite_hub: Hub) -> dict[str, str]:
    answer = sqlite_hub.post("/login", {"user": "root-of-it"}, bearer(bootstrap(sqlite_hub)))
    assert answer.status_code == 201, answer.text
    return bearer(answer.json()["token"])


def test_the_bootstrap_code_makes_the_first_admin_once(hub: Hub) -> None:
    code = bootstrap(hub)

    login = hub.post("/login", {"user": "ada"}, bearer(code))

    assert (login.status_code, login.json()["user"], login.json()["is_admin"]) == (201, "ada", True)
    assert hub.get("/whoami", headers=bearer(login.json()["token"])).json()["is_admin"]
    assert code_of(hub.post("/login", {"user": "eve"}, bearer(code))) == (401, "TOKEN_INVALID")
    with hub.database.writing() as session:
        assert users.offer_bootstrap(session, accounts.ensure_user(session, "local")) is None


def test_nobody_becomes_admin_by_being_first(hub: Hub) -> None:
    for path, body in (("/login", {}), ("/users", {"name": "eve", "is_admin": True})):
        assert code_of(hub.post(path, body, {})) == (401, "TOKEN_MISSING")
    assert code_of(hub.post("/users", {"name": "eve"}, hub.headers("eve"))) == (403, "ADMIN_ONLY")


def test_a_code_is_good_for_signing_in_and_nothing_else(sqlite_hub: Hub) -> None:
    code = bootstrap(sqlite_hub)

    assert code_of(sqlite_hub.get("/whoami", headers=bearer(code))) == (403, "CODE_MISUSED")
    assert code_of(sqlite_hub.post("/users", {"name": "eve"}, bearer(code))) == (403, "CODE_MISUSED")
    assert code_of(sqlite_hub.post("/login", {}, sqlite_hub.headers("eve"))) == (403, "CODE_MISUSED")


def test_a_code_is_used_once_by_whoever_is_first(hub: Hub) -> None:
    with hub.database.writing() as session:
        token = token_rows.standing_of_hash(session, accounts.tokens.hash_of(bootstrap_in(session)))
        assert token is not None
        won = [token_rows.revoke(session, token.token_id, at=token.expires_at) for _ in range(2)]
    assert won == [True, False]


def bootstrap_in(session: object) -> str:
    code = users.offer_bootstrap(session, accounts.ensure_user(session, "local"))  # type: ignore[arg-type]
    assert code is not None
    return code


def test_an_admin_makes_a_user_who_signs_in_and_has_a_password(sqlite_hub: Hub, admin: dict[str, str]) -> None:
    made = sqlite_hub.post("/users", {"name": "ann"}, admin).json()

    login = sqlite_hub.post("/login", {"password": PASSWORD}, bearer(made["code"]))
    assert (login.status_code, login.json()["user"], login.json()["is_admin"]) == (201, "ann", False)
    again = sqlite_hub.post("/login/password", {"user": "ann", "password": PASSWORD}, {})
    assert sqlite_hub.get("/whoami", headers=bearer(again.json()["token"])).json()["name"] == "ann"
    for user, password in (("ann", "wrong" * 3), ("nobody", PASSWORD)):
        refused = sqlite_hub.post("/login/password", {"user": user, "password": password}, {})
        assert code_of(refused) == (401, "PASSWORD_WRONG")
        assert refused.json()["detail"] == "That is not the name and the password of a user here."


def test_a_password_is_kept_as_a_hash_and_changed_by_who_knows_it(sqlite_hub: Hub) -> None:
    ann, path = sqlite_hub.headers("ann"), "/api/v1/password"

    def put(**body: str) -> int:
        return sqlite_hub.client.put(path, json=body, headers=ann).status_code

    assert put(new="x" * (MIN_CHARACTERS - 1)) == 422
    assert put(new=PASSWORD) == 204
    assert put(new="another one entirely") == 401
    assert put(new="another one entirely", old=PASSWORD) == 204

    with sqlite_hub.database.reading() as session:
        stored = users.password_hash_of(session, "ann")
    assert stored is not None
    assert stored.startswith("$argon2id$")


def test_ten_wrong_passwords_are_enough(sqlite_hub: Hub) -> None:
    wrong = {"user": "ann", "password": "not the one"}
    failures = sqlite_hub.app.state.services.wrong_sign_ins
    for _ in range(10):
        failures.note("testclient")

    refused = sqlite_hub.post("/login/password", wrong, {})

    assert code_of(refused) == (429, "RATE_LIMITED")
    assert 0 < int(refused.headers["retry-after"]) <= 300


def test_failures_are_forgotten_in_time_and_are_each_ones_own() -> None:
    now = [0.0]
    failures = Failures(most=2, within_s=10, clock=lambda: now[0])
    failures.note("a")
    now[0] = 5.0
    failures.note("a")
    with pytest.raises(TooMany) as refused:
        failures.check("a")
    assert refused.value.retry_after_s == 5
    failures.check("b")
    now[0] = 10.0
    failures.check("a")


def test_at_most_two_passwords_are_hashed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from hub.auth import passwords

    running, most, lock = [0], [0], threading.Lock()

    class Slow:
        def hash(self, password: str) -> str:
            with lock:
                running[0] += 1
                most[0] = max(most[0], running[0])
            threading.Event().wait(0.02)
            with lock:
                running[0] -= 1
            return "hash"

    monkeypatch.setattr(passwords, "_hasher", Slow())
    threads = [threading.Thread(target=passwords.hash_of, args=(PASSWORD,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 2


def test_the_last_admin_stays(sqlite_hub: Hub, admin: dict[str, str]) -> None:
    mine = "/api/v1/users/root-of-it"
    assert code_of(sqlite_hub.client.patch(mine, json={"is_admin": False}, headers=admin)) == (409, "LAST_ADMIN")
    assert code_of(sqlite_hub.client.delete(mine, headers=admin)) == (409, "LAST_ADMIN")
    sqlite_hub.headers("ann")
    assert sqlite_hub.client.patch("/api/v1/users/ann", json={"is_admin": True}, headers=admin).json()["is_admin"]
    assert sqlite_hub.client.delete(mine, headers=admin).status_code == 204
    assert code_of(sqlite_hub.get("/users", headers=admin)) == (401, "TOKEN_INVALID")


def test_a_deleted_user_is_gone_and_their_name_is_nobodys(sqlite_hub: Hub, admin: dict[str, str]) -> None:
    sqlite_hub.found("acme", ann="owner")
    ann = sqlite_hub.headers("ann")
    assert sqlite_hub.client.delete("/api/v1/users/olga", headers=admin).status_code == 204
    assert code_of(sqlite_hub.client.delete("/api/v1/users/ann", headers=admin)) == (409, "LAST_OWNER")

    with sqlite_hub.database.writing() as session:
        accounts.ensure_user(session, "bob")
    bob = sqlite_hub.headers("bob")
    assert sqlite_hub.client.delete("/api/v1/users/bob", headers=admin).status_code == 204
    assert code_of(sqlite_hub.get("/whoami", headers=bob)) == (401, "TOKEN_INVALID")
    assert code_of(sqlite_hub.post("/users", {"name": "bob"}, admin)) == (409, "NAME_TAKEN")
    assert code_of(sqlite_hub.post("/orgs", {"name": "bob"}, ann)) == (409, "NAME_TAKEN")
    assert "bob" not in [each["name"] for each in sqlite_hub.get("/users", headers=admin).json()["items"]]


def test_an_admin_makes_the_token_of_a_worker(sqlite_hub: Hub, admin: dict[str, str]) -> None:
    token = sqlite_hub.post("/tokens", {"name": "bench", "for_worker": True}, admin).json()

    assert token["token"].startswith("vhw_")
    body = {"name": "w", "suites": [], **shown("w", token["token"])}
    registered = sqlite_hub.post("/worker/register", body, bearer(token["token"]))
    assert registered.status_code == 200


def test_serve_leaves_the_code_in_its_folder_until_there_is_an_admin(
    sqlite_hub: Hub, embedded: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERA_HUB_CONFIG", str(tmp_path / "config"))
    file = embedded.bootstrap_token_file

    assert not open_local_account(sqlite_hub.database, embedded).has_admin
    assert file.stat().st_mode & 0o777 == 0o600
    assert sqlite_hub.post("/login", {}, bearer(file.read_text())).json()["is_admin"]

    assert not file.exists()
    assert open_local_account(sqlite_hub.database, embedded).has_admin
    assert not file.exists()


def test_serve_leaves_whoever_has_logged_in_at_their_login(
    sqlite_hub: Hub, embedded: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VERA_HUB_CONFIG", str(tmp_path / "config"))
    ada, program = sqlite_hub.token("ada"), sqlite_hub.token("acme", TokenKind.WORKER)
    for url, token in (("http://127.0.0.1:1", program), ("http://127.0.0.1:2", ada)):
        profile.remember(tmp_path / "config", url, profile.Login("whoever", token))

    secrets = open_local_account(sqlite_hub.database, embedded)

    assert (secrets.user, secrets.personal) == ("ada", ada)
