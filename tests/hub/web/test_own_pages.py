"""The pages where a namespace says which CI jobs it trusts and where its changes are sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import pytest

from hub.db.models.accounts import Publisher, Token
from hub.db.models.record import Webhook
from hub.domain.deliveries import send_due
from hub.sending.posting import Poster
from tests.builders import make_archive
from tests.hub.harness import Hub
from tests.hub.web.test_signing_in import PAGE, Browser

PUBLISHERS, WEBHOOKS = "/settings/publishers/acme", "/settings/webhooks/acme"
WORKFLOW = {
    "issuer": "https://token.actions.githubusercontent.com",
    "repository": "octo/lab",
    "repository_id": "123",
    "owner_id": "45",
    "workflow": "train.yml",
    "environment": "",
    "adapter": "",
}
FORM = "application/x-www-form-urlencoded"
NOBODY_THERE = "http://127.0.0.1:1/hook"


@pytest.fixture
def acme(sqlite_hub: Hub) -> Hub:
    """A hub with acme, owned by olga, which sends webhooks to this machine too."""
    sqlite_hub.found("acme", max="maintainer", pia="publisher")
    object.__setattr__(sqlite_hub.app.state.services, "poster", Poster(allow_loopback=True))
    return sqlite_hub


def seen_by(hub: Hub, user: str) -> Browser:
    return Browser(hub).sign_in(hub, user)


def listed(hub: Hub, what: str) -> list[dict[str, Any]]:
    return list(hub.get(f"/namespaces/acme/{what}", headers=hub.headers("olga")).json()["items"])


def buttons(page: str, word: str) -> list[str]:
    """The addresses of the forms on a page that end with `word`."""
    return re.findall(rf'action="([^"]*/{word})"', page)


def secrets(page: str) -> set[str]:
    return set(re.findall(r"whsec_[A-Za-z0-9+/=]+", page))


def how_many(hub: Hub) -> list[int]:
    """Tokens, workflows and webhooks."""
    with hub.database.reading() as session:
        return [session.query(table).count() for table in (Token, Publisher, Webhook)]


# -- Trusted publishers ---------------------------------------------------------------------------


def test_a_maintainer_trusts_a_workflow_and_trusts_it_no_longer(acme: Hub) -> None:
    max_ = seen_by(acme, "max")
    assert f'href="{PUBLISHERS}"' in max_.get("/settings/organisations/acme").text
    assert "Nothing yet: every push here needs a token" in max_.get(PUBLISHERS).text

    assert max_.send(PUBLISHERS, **WORKFLOW).status_code == 303
    assert max_.send(PUBLISHERS, **{**WORKFLOW, "environment": "release", "adapter": "tiny"}).status_code == 303

    whole, one = listed(acme, "publishers")
    assert (whole["target"], whole["environment"], whole["created_by"]) == ("acme", None, "max")
    assert (one["target"], one["environment"]) == ("acme/tiny", "release")
    page = max_.get(PUBLISHERS).text
    assert "Every job of it in any environment may push new versions and new adapters to all of acme" in page
    assert "in the environment “release” may push to acme/tiny and nothing else" in page
    assert "is of repository 123 and owner 45" in page
    first, _ = buttons(page, "remove")
    assert max_.send(first).status_code == 303
    assert listed(acme, "publishers") == [one]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"repository": ""}, "Say the repository, too."),
        ({"repository_id": "octo"}, "&#39;octo&#39; is no number: the number of the repository has only digits."),
        ({"owner_id": "1" * 41}, "the number of its owner has only digits"),
        ({"workflow": "w" * 201}, "Make the file of the workflow shorter"),
        ({"environment": "e" * 101}, "Make the environment shorter"),
        ({"issuer": "https://evil.test"}, "This hub trusts no jobs of https://evil.test"),
        ({"adapter": "No Name"}, "No Name"),
    ],
)
def test_a_workflow_that_cannot_be_trusted_stays_on_the_page(acme: Hub, changes: dict[str, str], sentence: str) -> None:
    answer = seen_by(acme, "max").send(PUBLISHERS, **{**WORKFLOW, "repository": "kept/there", **changes})

    assert answer.status_code == 422
    assert sentence in answer.text
    assert ('value="kept/there"' in answer.text) is ("repository" not in changes)
    assert listed(acme, "publishers") == []


def test_a_hub_without_an_address_says_that_no_job_can_show_itself(acme: Hub) -> None:
    assert "VERA_HUB_PUBLIC_URL" in seen_by(acme, "max").get(PUBLISHERS).text


# -- Webhooks -------------------------------------------------------------------------------------


def test_an_owner_adds_a_webhook_and_sees_its_secret_once(acme: Hub) -> None:
    olga = seen_by(acme, "olga")
    assert f'href="{WEBHOOKS}"' in olga.get("/settings/organisations/acme").text

    made = olga.send(WEBHOOKS, url=NOBODY_THERE, adapter="tiny", action=["version.pushed", "alias.set"])

    assert made.status_code == 200
    assert made.headers["cache-control"] == "private, no-store"
    (secret,) = secrets(made.text)
    (hook,) = listed(acme, "webhooks")
    assert (hook["url"], hook["target"]) == (NOBODY_THERE, "acme/tiny")
    assert hook["actions"] == ["alias.set", "version.pushed"]
    assert "alias.set, version.pushed of acme/tiny alone" in olga.get(WEBHOOKS).text
    assert secrets(olga.get(f"{WEBHOOKS}/{hook['id']}").text) == set()

    changed = olga.send(f"{WEBHOOKS}/{hook['id']}/secret").text
    assert len(secrets(changed) - {secret}) == 1
    assert "Until <time" in changed
    assert secrets(olga.get(f"{WEBHOOKS}/{hook['id']}").text) == set()

    (button,) = buttons(olga.get(WEBHOOKS).text, "remove")
    assert olga.send(button).status_code == 303
    assert listed(acme, "webhooks") == []


def test_what_was_sent_is_seen_and_sent_again(acme: Hub) -> None:
    olga = seen_by(acme, "olga")
    olga.send(WEBHOOKS, url=NOBODY_THERE)
    acme.register_base()
    assert acme.push(make_archive(), user="acme", headers=acme.headers("olga")).status_code == 201
    (hook,) = listed(acme, "webhooks")
    send_due(acme.database, acme.app.state.services.poster)

    page = olga.get(f"{WEBHOOKS}/{hook['id']}").text

    assert page.index("version.pushed") < page.index("webhook.added")
    assert "Waits to be sent again" in page
    assert "ConnectionRefusedError" in page
    assert "&#34;acme/tiny@v1&#34;" in page
    newest, *_ = buttons(page, "replay")
    assert olga.send(newest).headers["location"] == f"{WEBHOOKS}/{hook['id']}"
    (sent, *_) = acme.get(f"/namespaces/acme/webhooks/{hook['id']}/deliveries", headers=acme.headers("olga")).json()[
        "items"
    ]
    assert (sent["state"], sent["attempts"]) == ("waiting", 0)
    assert olga.send(f"{WEBHOOKS}/{hook['id']}/deliveries/9999/replay").status_code == 404


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"url": "ftp://example.org/hook"}, "https"),
        ({"url": "https://10.0.0.1/hook"}, "10.0.0.1"),
        ({"url": "https://example.org/" + "x" * 500}, "at most 500 characters"),
        ({"url": NOBODY_THERE, "action": "tea.made"}, "&#39;tea.made&#39; is nothing that is recorded"),
        ({"url": NOBODY_THERE, "adapter": "No Name"}, "No Name"),
    ],
)
def test_a_webhook_that_cannot_be_stays_on_the_page(acme: Hub, fields: dict[str, str], sentence: str) -> None:
    answer = seen_by(acme, "olga").send(WEBHOOKS, **fields)

    assert answer.status_code == 422
    assert sentence in answer.text
    assert f'value="{fields["url"]}"' in answer.text
    assert listed(acme, "webhooks") == []


# -- Who may --------------------------------------------------------------------------------------


def test_these_pages_are_for_whom_the_api_lets_do_the_same(acme: Hub) -> None:
    hook = acme.post("/namespaces/acme/webhooks", {"url": NOBODY_THERE}, acme.headers("olga")).json()
    one = f"{WEBHOOKS}/{hook['id']}"
    forms = {
        PUBLISHERS: ("olga", "max"),
        f"{PUBLISHERS}/999/remove": ("olga", "max"),
        WEBHOOKS: ("olga",),
        f"{one}/secret": ("olga",),
        f"{one}/deliveries/999/replay": ("olga",),
        f"{one}/remove": ("olga",),
    }
    for user in ("pia", "max", "eve", "olga"):
        browser = seen_by(acme, user)
        for path, allowed in forms.items():
            done = browser.send(path).status_code
            missing = 404 if "999" in path else 0  # the thing, for whom it would be
            assert (done in (200, 303, 422, missing)) is (user in allowed), (user, path, done)
        for path in (PUBLISHERS, WEBHOOKS):
            assert (browser.get(path).status_code == 200) is (user in forms[path]), (user, path)
    stranger = Browser(acme)
    for path in (PUBLISHERS, WEBHOOKS, one):
        assert stranger.get(path).headers["location"].startswith("/signin?next=")


def test_what_another_site_sends_to_these_pages_is_not_done(acme: Hub) -> None:
    hook = acme.post("/namespaces/acme/webhooks", {"url": NOBODY_THERE}, acme.headers("olga")).json()
    olga, elsewhere = seen_by(acme, "olga"), {"Accept": "application/json", "Sec-Fetch-Site": "cross-site"}
    one = f"{WEBHOOKS}/{hook['id']}"

    for path in (PUBLISHERS, WEBHOOKS, f"{one}/secret", f"{one}/remove", f"{one}/deliveries/1/replay"):
        answer = olga.send(path, elsewhere, **WORKFLOW, url=NOBODY_THERE)
        assert (answer.status_code, answer.json()["code"]) == (403, "CSRF"), path
    assert [each["old_secret_until"] for each in listed(acme, "webhooks")] == [None]
    assert listed(acme, "publishers") == []


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/settings/tokens", {"name": "mine", "scope": "repo:read", "days": "3"}),
        (PUBLISHERS, WORKFLOW),
        (WEBHOOKS, {"url": NOBODY_THERE}),
    ],
)
def test_who_is_signed_out_while_a_form_comes_changes_nothing(acme: Hub, path: str, fields: dict[str, str]) -> None:
    olga = seen_by(acme, "olga")
    before, body = how_many(acme), urlencode(fields).encode()

    def pieces() -> Iterator[bytes]:
        yield body[:-1]
        acme.change_tokens(revoked_at=datetime.now(UTC))
        yield body[-1:]

    answer = olga.client.post(path, content=pieces(), headers={**PAGE, "Content-Type": FORM})

    assert (answer.status_code, how_many(acme)) == (401, before), answer.text


def test_anothers_webhook_is_none(acme: Hub) -> None:
    acme.found("other")
    hook = acme.post("/namespaces/other/webhooks", {"url": NOBODY_THERE}, acme.headers("olga")).json()

    assert seen_by(acme, "olga").get(f"{WEBHOOKS}/{hook['id']}").status_code == 404
