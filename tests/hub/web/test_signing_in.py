"""Signing in at the pages, and what one can do there: by forms, as a browser sends them."""

from __future__ import annotations

import re

import pytest
from httpx2 import Response
from starlette.testclient import TestClient

from hub.access.visiting import own_path
from hub.auth import passwords
from hub.auth.tokens import TokenKind
from hub.db.models.accounts import Account
from hub.domain import accounts, users
from hub.errors import Malformed
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, start

PAGE = {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"}
PASSWORD = "correct horse battery"


class Browser:
    """A visitor with cookies of their own."""

    def __init__(self, hub: Hub, base_url: str = "http://127.0.0.1:8000") -> None:
        self.client = TestClient(hub.app, base_url=base_url, follow_redirects=False, raise_server_exceptions=False)

    def get(self, path: str) -> Response:
        return self.client.get(path, headers=PAGE)

    def send(self, path: str, headers: dict[str, str] = PAGE, **fields: str | list[str]) -> Response:
        return self.client.post(path, data=fields, headers=headers)

    def sign_in(self, hub: Hub, user: str) -> Browser:
        answer = self.send("/signin", token=hub.token(user))
        assert answer.status_code == 303, answer.text
        return self


@pytest.fixture
def visitor(sqlite_hub: Hub) -> Browser:
    return Browser(sqlite_hub)


def give_password(hub: Hub, user: str) -> None:
    with hub.database.writing() as session:
        session.get_one(Account, accounts.ensure_user(session, user)).password_hash = passwords.hash_of(PASSWORD)


def test_one_signs_in_with_a_password_and_out_again(sqlite_hub: Hub, visitor: Browser) -> None:
    give_password(sqlite_hub, "ann")
    assert visitor.get("/settings").headers["location"] == "/signin?next=/settings"

    answer = visitor.send("/signin", user="ann", password=PASSWORD, next="/settings")

    assert (answer.status_code, answer.headers["location"]) == (303, "/settings")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("vera-session=vhs_")
    assert {"HttpOnly", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
    settings = visitor.get("/settings")
    assert "<h1>ann" in settings.text
    assert settings.headers["cache-control"] == "private, no-store"
    secret = visitor.client.cookies["vera-session"]

    assert visitor.send("/logout").status_code == 303
    visitor.client.cookies.set("vera-session", secret)  # a thief's copy
    assert visitor.get("/settings").status_code == 303


@pytest.mark.parametrize(
    "fields", [{"user": "ann", "password": "wrong"}, {"user": "bob", "password": PASSWORD}, {"token": "vhp_x"}]
)
def test_what_is_wrong_signs_nobody_in(sqlite_hub: Hub, visitor: Browser, fields: dict[str, str]) -> None:
    give_password(sqlite_hub, "ann")
    answer = visitor.send("/signin", **fields)

    assert answer.status_code == 401
    assert 'role="alert"' in answer.text
    assert "set-cookie" not in answer.headers


def test_with_tls_the_cookie_is_this_hosts_alone(embedded: Settings) -> None:
    hub = start(embedded.model_copy(update={"public_url": "https://hub.example.org"}))
    answer = Browser(hub, "https://hub.example.org").send("/signin", token=hub.token("ann"))
    hub.database.close()

    assert answer.headers["set-cookie"].startswith("__Host-vera-session=vhs_")
    assert "Secure" in answer.headers["set-cookie"]


def test_a_code_signs_in_once_and_the_token_of_a_program_does_not(sqlite_hub: Hub, visitor: Browser) -> None:
    with sqlite_hub.database.writing() as session:
        code = users.offer_bootstrap(session, accounts.ensure_user(session, "ada"))
    assert code is not None
    assert visitor.send("/signin", token=code).status_code == 303
    assert "admin" in visitor.get("/settings").text

    other = Browser(sqlite_hub)
    assert other.send("/signin", token=code).status_code == 401
    made = sqlite_hub.post("/tokens", {"name": "ci", "scopes": ["repo:push"]}, sqlite_hub.headers("ada")).json()
    assert "for a program" in other.send("/signin", token=made["token"]).text
    assert other.send("/signin", token=sqlite_hub.token("ada", TokenKind.WORKER)).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1:8000"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://evil.test"},
        {"Origin": "null"},
        {},
    ],
)
def test_what_another_site_sends_is_not_done(sqlite_hub: Hub, visitor: Browser, headers: dict[str, str]) -> None:
    visitor.sign_in(sqlite_hub, "ann")
    for path in ("/settings/organisations", "/logout", "/signin", "/settings/tokens"):
        answer = visitor.send(path, {"Accept": "application/json", **headers}, name="acme")
        assert (answer.status_code, answer.json()["code"]) == (403, "CSRF"), path
    assert "You are in none" in visitor.get("/settings").text


def test_an_older_browser_says_where_a_form_is_from(sqlite_hub: Hub, visitor: Browser) -> None:
    answer = visitor.send("/signin", {"Origin": "http://127.0.0.1:8000"}, token=sqlite_hub.token("ann"))
    assert answer.status_code == 303


def test_the_api_takes_no_cookie_and_the_pages_no_token(sqlite_hub: Hub, visitor: Browser) -> None:
    visitor.sign_in(sqlite_hub, "ann")
    assert visitor.client.get("/api/v1/whoami").json()["code"] == "TOKEN_MISSING"
    fresh = Browser(sqlite_hub).client
    assert fresh.get("/settings", headers={**PAGE, **sqlite_hub.headers("ann")}).status_code == 303


@pytest.mark.parametrize(
    "text",
    [
        "//evil.test",
        "/\\evil.test",
        "\\\\evil",
        "https://evil.test",
        "javascript:alert(1)",
        "/a//b",
        "/%2f%2fevil",
        "",
        " /",
        "/a\n",
        "/?next=x",
        "evil",
    ],
)
def test_one_is_sent_on_only_to_pages_of_the_hub(text: str) -> None:
    with pytest.raises(Malformed):
        own_path(text)


def test_a_redirect_elsewhere_is_refused_before_and_after_signing_in(sqlite_hub: Hub, visitor: Browser) -> None:
    assert visitor.get("/signin?next=//evil.test").status_code == 400
    assert visitor.send("/signin", token=sqlite_hub.token("ann"), next="//evil.test").status_code == 400


def test_a_token_is_made_shown_once_and_revoked(sqlite_hub: Hub, visitor: Browser) -> None:
    visitor.sign_in(sqlite_hub, "ann")

    made = visitor.send("/settings/tokens", name="ci <b>", scope=["repo:push", "eval:submit"], days="7", only="")

    (token,) = set(re.findall(r"vhp_\w{46}", made.text))
    assert "ci &lt;b&gt;" in made.text
    headers = {"Authorization": f"Bearer {token}"}
    assert sqlite_hub.get("/whoami", headers=headers).json()["scopes"] == ["eval:submit", "repo:push", "repo:read"]
    settings = visitor.get("/settings").text
    assert token not in settings
    (path,) = set(
        re.findall(
            r'action="(/settings/tokens/\d+/revoke)" method="post"><button class="quiet" type="submit" aria-label="Revoke ci',
            settings,
        )
    )
    assert visitor.send(path).status_code == 303
    assert sqlite_hub.get("/whoami", headers=headers).status_code == 401


def test_an_organisation_is_run_from_its_page(sqlite_hub: Hub, visitor: Browser) -> None:
    visitor.sign_in(sqlite_hub, "olga")
    ann = Browser(sqlite_hub).sign_in(sqlite_hub, "ann")

    assert visitor.send("/settings/organisations", name="acme").headers["location"] == "/settings/organisations/acme"
    assert visitor.send("/settings/organisations/acme/invite", user="ann", role="reader").status_code == 303
    assert "invited by olga" in ann.get("/settings").text
    assert ann.get("/settings/organisations/acme").status_code == 403
    assert ann.send("/settings/invitations/acme/accept").status_code == 303
    assert "You are reader here" in ann.get("/settings/organisations/acme").text
    assert ann.send("/settings/organisations/acme/members/ann/role", role="owner").status_code == 403
    assert visitor.send("/settings/organisations/acme/members/ann/role", role="owner").status_code == 303
    assert visitor.send("/settings/organisations/acme/members/olga/remove").status_code == 303
    assert ann.send("/settings/organisations/acme/members/ann/remove").status_code == 409
    assert "member.role-changed" in ann.get("/settings/audit/acme").text
    assert visitor.get("/settings/audit/acme").status_code == 403


def test_a_private_adapter_is_a_page_for_who_has_signed_in(sqlite_hub: Hub, visitor: Browser) -> None:
    sqlite_hub.register_base()
    sqlite_hub.push(make_archive(), "closed", user="ann", visibility="private")

    assert visitor.get("/ann/closed").status_code == 404
    assert "ann/</span>closed" not in visitor.get("/").text
    visitor.sign_in(sqlite_hub, "ann")
    shown = visitor.get("/ann/closed")
    assert (shown.status_code, "private</span>" in shown.text) == (200, True)
    assert (shown.headers["cache-control"], shown.headers["vary"]) == ("private, no-store", "Cookie")
    assert "ann/</span>closed" in visitor.get("/").text


def test_an_evaluation_is_cancelled_from_the_page_of_its_adapter(sqlite_hub: Hub, visitor: Browser) -> None:
    sqlite_hub.register_base()
    sqlite_hub.worker()
    sqlite_hub.push(make_archive(), user="ann")
    form = re.compile(r'action="(/ann/tiny/evaluations/[0-9]+/cancel)"')
    assert not form.search(visitor.get("/ann/tiny").text)
    assert not form.search(Browser(sqlite_hub).sign_in(sqlite_hub, "eve").get("/ann/tiny").text)

    button = form.search(visitor.sign_in(sqlite_hub, "ann").get("/ann/tiny").text)
    assert button is not None
    sent = visitor.send(button[1])

    assert (sent.status_code, sent.headers["location"]) == (303, "/ann/tiny/v1")
    after = visitor.get("/ann/tiny/v1").text
    assert "ann cancelled it" in after
    assert not form.search(after)


def test_a_form_has_a_largest_size(sqlite_hub: Hub, visitor: Browser) -> None:
    visitor.sign_in(sqlite_hub, "ann")
    assert visitor.send("/settings/organisations", name="a" * 20_000).status_code == 413
