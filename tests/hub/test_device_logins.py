"""A program is let in by a browser: by who is signed in there, once, and by nobody who guesses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from httpx2 import Response
from sqlalchemy import update

from hub.db.models.accounts import DeviceLogin
from tests.hub.harness import Hub
from tests.hub.web.test_signing_in import PAGE, Browser

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


def ask(hub: Hub, **more: str) -> dict[str, Any]:
    answer = hub.client.post("/oauth/device", data={"client_id": "x", **more})
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def collect(hub: Hub, asked: dict[str, Any]) -> Response:
    return hub.client.post("/oauth/token", data={"grant_type": DEVICE_CODE, "device_code": asked["device_code"]})


def error_of(answer: Response) -> tuple[int, str]:
    assert answer.json()["error_description"]
    return answer.status_code, answer.json()["error"]


def signed_in(hub: Hub, user: str = "ann") -> Browser:
    return Browser(hub).sign_in(hub, user)


def test_nothing_is_given_until_somebody_says_yes_and_then_once(hub: Hub) -> None:
    asked, browser = ask(hub, device_name="vera-hub on a-laptop"), signed_in(hub)
    assert error_of(collect(hub, asked)) == (400, "authorization_pending")

    page = browser.get(f"/settings/device/{asked['user_code']}")
    assert "vera-hub on a-laptop" in page.text
    assert "testclient" in page.text  # where it asked from
    assert browser.send(f"/settings/device/{asked['user_code']}/allow").status_code == 200

    given = collect(hub, asked)
    assert given.status_code == 200, given.text
    headers = {"Authorization": f"Bearer {given.json()['access_token']}"}
    assert hub.get("/whoami", headers=headers).json()["name"] == "ann"
    assert error_of(collect(hub, asked)) == (400, "expired_token")
    tokens = hub.get("/tokens", headers=hub.headers("ann")).json()["items"]
    assert "vera-hub on a-laptop at testclient" in [token["name"] for token in tokens]


def test_a_code_is_typed_as_people_type(hub: Hub) -> None:
    asked, browser = ask(hub), signed_in(hub)
    typed = asked["user_code"].lower().replace("-", " ")
    answer = browser.send("/settings/device", code=typed)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/settings/device/{asked['user_code']}")


def test_a_code_is_answered_once(hub: Hub) -> None:
    asked = ask(hub)
    address = f"/settings/device/{asked['user_code']}"
    assert signed_in(hub, "ann").send(f"{address}/deny").status_code == 200
    assert signed_in(hub, "bob").send(f"{address}/allow").status_code == 404
    assert error_of(collect(hub, asked)) == (400, "access_denied")


def test_who_is_not_signed_in_is_sent_to_sign_in_and_back(hub: Hub) -> None:
    address = f"/settings/device/{ask(hub)['user_code']}"
    assert Browser(hub).get(address).headers["location"] == f"/signin?next={address}"


def test_another_site_lets_nobody_in(hub: Hub) -> None:
    asked, browser = ask(hub), signed_in(hub)
    elsewhere = {**PAGE, "Sec-Fetch-Site": "cross-site"}
    assert browser.send(f"/settings/device/{asked['user_code']}/allow", elsewhere).status_code == 403
    assert error_of(collect(hub, asked)) == (400, "authorization_pending")


def test_a_code_is_good_for_ten_minutes(hub: Hub) -> None:
    asked, browser = ask(hub), signed_in(hub)
    assert asked["expires_in"] == 600
    with hub.database.writing() as session:
        session.execute(update(DeviceLogin).values(expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert browser.send(f"/settings/device/{asked['user_code']}/allow").status_code == 404
    assert error_of(collect(hub, asked)) == (400, "expired_token")


def test_who_guesses_codes_is_made_to_wait(hub: Hub) -> None:
    asked, browser = ask(hub), signed_in(hub)
    guesses = [browser.get(f"/settings/device/BBBB-BBB{letter}").status_code for letter in "BCDFGHJKLMN"]
    assert guesses == [404] * 10 + [429]
    assert browser.get(f"/settings/device/{asked['user_code']}").status_code == 429
    assert signed_in(hub, "bob").get(f"/settings/device/{asked['user_code']}").status_code == 200


@pytest.mark.one_process
def test_who_asks_without_end_is_told_to_slow_down(hub: Hub) -> None:
    asked = ask(hub)
    told = [collect(hub, asked).json()["error"] for _ in range(6)]
    assert told == ["authorization_pending"] * 5 + ["slow_down"]


def test_one_address_has_so_many_codes_and_no_more(hub: Hub) -> None:
    for _ in range(20):
        ask(hub)
    refused = hub.client.post("/oauth/device", data={"client_id": "x"})
    assert error_of(refused) == (429, "slow_down")


def test_who_is_deleted_meanwhile_gives_no_token(hub: Hub) -> None:
    asked = ask(hub)
    admin = hub.headers("root")
    with hub.database.writing() as session:
        from hub.db.models.accounts import Account

        session.execute(update(Account).where(Account.name == "root").values(is_admin=True))
    assert signed_in(hub, "ann").send(f"/settings/device/{asked['user_code']}/allow").status_code == 200
    assert hub.delete("/users/ann", admin).status_code == 204
    assert error_of(collect(hub, asked)) == (400, "expired_token")


@pytest.mark.parametrize(
    ("sent", "error"),
    [
        ({"data": {}}, "invalid_request"),
        ({"data": {"grant_type": "password"}}, "unsupported_grant_type"),
        ({"data": {"grant_type": DEVICE_CODE}}, "invalid_request"),
        ({"data": {"grant_type": DEVICE_CODE, "device_code": "none"}}, "expired_token"),
        ({"json": [1]}, "invalid_request"),
        ({"content": b"\xff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, "invalid_request"),
    ],
    ids=["nothing", "password", "no-code", "unknown", "a-list", "no-text"],
)
def test_what_is_no_grant_is_told_so(hub: Hub, sent: dict[str, Any], error: str) -> None:
    assert error_of(hub.client.post("/oauth/token", **sent))[1] == error
