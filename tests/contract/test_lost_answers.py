"""Answers that get lost on their way: the real client asks again, and the real hub has done it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from hub.auth.tokens import TokenKind
from hub.domain import accounts
from hub.settings import Settings
from sdk.client import Hub
from sdk.config import Config
from tests.builders import BASE_NAME, make_archive, make_base
from tests.hub.harness import start
from vera.ref import AdapterRef

TINY = AdapterRef.parse("demo/tiny@v1")
HOOK = "http://127.0.0.1:9/hook"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A client of a hub on which demo/tiny has a version that `prod` means."""
    app = start(Settings(data_dir=tmp_path / "hub", webhook_allow_loopback=True)).app
    database = app.state.services.database
    with database.writing() as session:
        token = accounts.issue_token(session, accounts.ensure_user(session, "demo"), TokenKind.PERSONAL)
    with TestClient(app, base_url="http://127.0.0.1") as http:
        hub = Hub(Config("http://127.0.0.1", tmp_path / "config", tmp_path / "cache", token), http=http)
        hub.register_base(BASE_NAME, make_base().to_rows())
        hub.push_version(TINY, make_archive().files)
        hub.set_alias(TINY, "prod")
        yield hub
    database.close()


def lose_next_answer(hub: Hub) -> None:
    """The hub is to work the next request, and the client to hear nothing of it."""

    def break_off(_: httpx2.Response) -> None:
        hub._http.event_hooks = {"request": [], "response": []}
        raise httpx2.ReadError("the line broke")

    hub._http.event_hooks = {"request": [], "response": [break_off]}


CHANGES: dict[str, Callable[[Hub], object]] = {
    "a token": lambda hub: hub.create_token("ci", ["repo:push"]),
    "an organisation": lambda hub: hub.create_organisation("acme"),
    "a webhook": lambda hub: hub.add_webhook("demo", HOOK),
    "a new alias": lambda hub: hub.set_alias(TINY, "staging", must_be_new=True),
    "an alias that moves": lambda hub: hub.set_alias(TINY, "prod", revision=1, protected=True),
    "an alias that goes": lambda hub: hub.remove_alias(TINY, "prod"),
    "a name": lambda hub: hub.move(TINY, AdapterRef("demo", "other")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_whose_answer_is_lost_is_made_once(hub: Hub, change: Callable[[Hub], object]) -> None:
    before = len(list(hub.audit("demo"))) + len(list(hub.list_organisations()))
    lose_next_answer(hub)

    change(hub)

    assert not hub._http.event_hooks["response"], "no answer was lost"
    assert len(list(hub.audit("demo"))) + len(list(hub.list_organisations())) == before + 1


def test_a_token_whose_answer_was_lost_can_be_used(hub: Hub) -> None:
    lose_next_answer(hub)

    made = hub.create_token("ci", ["repo:push"])

    assert [each.name for each in hub.list_tokens()].count("ci") == 1
    with_it = Hub(replace(hub.config, token=made.token), http=hub._http)
    assert with_it.whoami().name == "demo"
