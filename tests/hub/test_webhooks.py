"""Webhooks: every change that was made is told to whoever asked for it, until it was received or given up."""

from __future__ import annotations

import base64
import hmac
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, insert, select, update

from hub.db import session as db
from hub.db.models.accounts import Account
from hub.db.models.record import Delivery, Webhook
from hub.domain import accounts, deliveries
from hub.domain.deliveries import PAUSES, send_due
from hub.sending.posting import Outcome, Poster
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of, start

pytestmark = pytest.mark.one_process


@dataclass
class Receiver:
    """A server that hears webhooks, and answers with `status`."""

    server: ThreadingHTTPServer
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 204

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.heard]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            listening.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(listening.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    listening = Receiver(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
    thread = threading.Thread(target=listening.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield listening
    listening.server.shutdown()
    listening.server.server_close()
    thread.join()


@pytest.fixture
def poster() -> Iterator[Poster]:
    sending = Poster(allow_loopback=True)
    yield sending
    sending.close()


def add(hub: Hub, url: str, namespace: str = "acme", user: str = "olga", **more: object) -> dict[str, Any]:
    """Adds a webhook, past the check of its address: this one is a test's."""
    services = hub.app.state.services
    object.__setattr__(services, "poster", Poster(allow_loopback=True))
    answer = hub.post(f"/namespaces/{namespace}/webhooks", {"url": url, **more}, hub.headers(user))
    services.poster.close()
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def log(hub: Hub, webhook: dict[str, Any]) -> list[dict[str, Any]]:
    answer = hub.get(f"/namespaces/acme/webhooks/{webhook['id']}/deliveries", headers=hub.headers("olga"))
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def invite(hub: Hub) -> None:
    """A change in acme that a webhook may hear of."""
    hub.headers("demo")  # a user of that name
    answer = hub.post("/orgs/acme/invitations", {"user": "demo", "role": "reader"}, hub.headers("olga"))
    assert answer.status_code == 201, answer.text


def signature(heard: tuple[dict[str, str], bytes], secret: str) -> str:
    """What the specification says of a message and a secret."""
    headers, body = heard
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    digest = hmac.digest(base64.b64decode(secret.removeprefix("whsec_")), signed, "sha256")
    return f"v1,{base64.b64encode(digest).decode()}"


def let_time_pass(hub: Hub, by: timedelta = timedelta(days=2)) -> None:
    with hub.database.writing() as session:
        due = db.now(session) - timedelta(seconds=1)
        session.execute(update(Delivery).where(Delivery.state == "waiting").values(next_at=due))


def test_a_change_is_told_signed_as_the_specification_says(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.register_base()
    hub.found("acme")
    webhook = add(hub, receiver.url)
    pushed = hub.push(make_archive(), "topics", user="acme", headers=hub.headers("olga")).json()

    assert send_due(hub.database, poster) == 2

    told = {message["type"]: message for message in receiver.messages}
    assert set(told) == {"webhook.added", "version.pushed"}
    assert told["version.pushed"]["data"]["subject"] == "acme/topics@v1"
    assert told["version.pushed"]["data"]["actor"] == "olga"
    assert told["version.pushed"]["data"]["facts"]["digest"] == pushed["digest"]
    for heard in receiver.heard:
        assert heard[0]["webhook-signature"] == signature(heard, webhook["secret"])
    assert {each["state"] for each in log(hub, webhook)} == {"done"}
    assert send_due(hub.database, poster) == 0


def test_a_webhook_hears_what_it_asked_for(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.register_base()
    hub.found("acme")
    hub.found("other")
    add(hub, receiver.url, adapter="one", actions=["version.pushed"])
    for seed, (namespace, name) in enumerate([("acme", "one"), ("acme", "two"), ("other", "one")]):
        hub.push(make_archive(seed=seed), name, user=namespace, headers=hub.headers("olga"))
    invite(hub)

    send_due(hub.database, poster)

    assert [message["data"]["subject"] for message in receiver.messages] == ["acme/one@v1"]


def test_a_change_that_was_not_made_is_told_to_nobody(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.register_base()
    hub.found("acme")
    add(hub, receiver.url, actions=["version.pushed"])
    hub.push(make_archive(), "topics", user="acme", headers=hub.headers("olga"))
    refused = hub.push(make_archive(seed=1), "t0pics", user="acme", headers=hub.headers("olga"))
    assert refused.status_code == 409

    assert send_due(hub.database, poster) == 1


def test_a_message_is_sent_again_later_and_later_and_then_given_up(
    hub: Hub, receiver: Receiver, poster: Poster
) -> None:
    hub.found("acme")
    receiver.status = 500
    webhook = add(hub, receiver.url)
    pauses = []
    for _ in PAUSES:
        assert send_due(hub.database, poster) == 1
        assert send_due(hub.database, poster) == 0  # not yet
        with hub.database.reading() as session:
            pauses.append(session.scalars(select(Delivery.next_at)).one() - db.now(session))
        let_time_pass(hub)
    assert send_due(hub.database, poster) == 1
    let_time_pass(hub)
    assert send_due(hub.database, poster) == 0

    (failed,) = log(hub, webhook)
    assert (failed["state"], failed["status"], failed["attempts"]) == ("failed", 500, len(PAUSES) + 1)
    assert "only 2xx" in failed["error"]
    assert all(pause * 0.9 < waited < pause * 1.3 for pause, waited in zip(PAUSES, pauses, strict=True))
    assert len({headers["webhook-id"] for headers, _ in receiver.heard}) == 1

    receiver.status = 204
    path = f"/namespaces/acme/webhooks/{webhook['id']}/deliveries/{failed['id']}/replay"
    again = hub.post(path, {}, hub.headers("olga")).json()
    assert (again["state"], again["attempts"]) == ("waiting", 0)
    assert send_due(hub.database, poster) == 1
    assert log(hub, webhook)[0]["state"] == "done"
    assert {headers["webhook-id"] for headers, _ in receiver.heard} == {failed["message_id"]}


def test_a_receiver_that_is_gone_is_sent_nothing_more(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.found("acme")
    receiver.status = 410
    webhook = add(hub, receiver.url)
    send_due(hub.database, poster)
    invite(hub)

    assert send_due(hub.database, poster) == 0
    assert [each["state"] for each in log(hub, webhook)] == ["failed"]
    (shown,) = hub.get("/namespaces/acme/webhooks", headers=hub.headers("olga")).json()["items"]
    assert shown["disabled_at"] is not None
    assert "secret" not in shown

    receiver.status = 204
    (failed,) = log(hub, webhook)
    path = f"/namespaces/acme/webhooks/{webhook['id']}"
    assert hub.post(f"{path}/deliveries/{failed['id']}/replay", {}, hub.headers("olga")).status_code == 200
    assert send_due(hub.database, poster) == 1
    (shown,) = hub.get("/namespaces/acme/webhooks", headers=hub.headers("olga")).json()["items"]
    assert shown["disabled_at"] is None


def test_a_message_whose_sender_was_killed_is_sent_by_the_next(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.found("acme")
    add(hub, receiver.url)
    (taken,) = deliveries._take(hub.database)  # and then nothing more is heard of it

    assert send_due(hub.database, poster) == 0
    let_time_pass(hub)
    assert send_due(hub.database, poster) == 1
    with hub.database.writing() as session:  # the first one was only slow
        deliveries._keep(session, taken, Outcome(500, None, 1))
        assert session.scalars(select(Delivery.state)).one() == "done"


def test_the_server_sends_what_waited_while_it_was_down(tmp_path: Path, receiver: Receiver) -> None:
    settings = Settings(data_dir=tmp_path, webhook_allow_loopback=True)
    hub = start(settings)
    hub.found("acme")
    answer = hub.post("/namespaces/acme/webhooks", {"url": receiver.url}, hub.headers("olga"))
    assert answer.status_code == 201
    hub.database.close()  # it never ran

    again = start(settings)
    with again.client:
        pass  # a server that is stopped has looked once

    assert [message["type"] for message in receiver.messages] == ["webhook.added"]


def test_one_slow_receiver_does_not_take_every_place(hub: Hub, receiver: Receiver) -> None:
    hub.found("acme")
    first = add(hub, receiver.url)
    invite(hub)
    with hub.database.writing() as session:  # far more than are taken at once
        one = session.scalars(select(Delivery)).first()
        facts = {c.key: getattr(one, c.key) for c in Delivery.__table__.c if c.key != "id"}
        session.execute(insert(Delivery), [facts] * 500)
    second = add(hub, receiver.url, actions=["webhook.added"])

    taken = [str(message.webhook_id) for message in deliveries._take(hub.database)]

    assert (taken.count(first["id"]), taken.count(second["id"])) == (2, 1)


def test_webhooks_are_for_owners_and_their_addresses_public(hub: Hub) -> None:
    hub.found("acme", max="maintainer")
    body = {"url": "https://127.0.0.1/"}
    assert code_of(hub.post("/namespaces/acme/webhooks", body, hub.headers("max"))) == (403, "FORBIDDEN")
    assert code_of(hub.post("/namespaces/acme/webhooks", body, hub.headers("olga"))) == (422, "URL_FORBIDDEN")
    unknown = {"url": "https://93.184.215.14/", "actions": ["coffee.made"]}
    assert code_of(hub.post("/namespaces/acme/webhooks", unknown, hub.headers("olga"))) == (422, "ACTION_UNKNOWN")
    with hub.database.reading() as session:
        assert session.scalar(select(func.count()).select_from(Webhook)) == 0


def test_a_new_secret_signs_beside_the_old_one_for_a_day(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.found("acme")
    webhook, olga = add(hub, receiver.url, actions=["invitation.made"]), hub.headers("olga")
    path = f"/namespaces/acme/webhooks/{webhook['id']}"
    changed = hub.post(f"{path}/secret", {}, olga).json()
    assert (changed["id"], changed["secret"] != webhook["secret"]) == (webhook["id"], True)
    lasts = datetime.fromisoformat(changed["old_secret_until"]) - datetime.now(UTC)
    assert timedelta(hours=23) < lasts <= timedelta(hours=24)

    invite(hub)
    send_due(hub.database, poster)
    with hub.database.writing() as session:
        session.execute(update(Webhook).values(old_secret_until=db.now(session)))
    invite(hub)
    send_due(hub.database, poster)

    both, later = receiver.heard
    signatures = [signature(both, each["secret"]) for each in (changed, webhook)]
    assert both[0]["webhook-signature"] == " ".join(signatures)
    assert later[0]["webhook-signature"] == signature(later, changed["secret"])
    assert changed["secret"] not in hub.get("/namespaces/acme/webhooks", headers=olga).text
    assert code_of(hub.post("/namespaces/acme/webhooks/99/secret", {}, olga)) == (404, "WEBHOOK_UNKNOWN")
    assert hub.get("/namespaces/acme/audit", headers=olga).json()["items"][2]["action"] == "webhook.secret-changed"


def test_of_three_secrets_the_first_is_good_no_longer(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.found("acme")
    webhook, olga = add(hub, receiver.url, actions=["invitation.made"]), hub.headers("olga")
    path = f"/namespaces/acme/webhooks/{webhook['id']}/secret"
    second, third = (hub.post(path, {}, olga).json()["secret"] for _ in range(2))

    invite(hub)
    send_due(hub.database, poster)

    (heard,) = receiver.heard
    assert heard[0]["webhook-signature"] == " ".join(signature(heard, each) for each in (third, second))


def test_a_webhook_is_removed_with_what_waited_for_it(hub: Hub, receiver: Receiver, poster: Poster) -> None:
    hub.found("acme")
    webhook = add(hub, receiver.url)
    path = f"/api/v1/namespaces/acme/webhooks/{webhook['id']}"

    assert hub.client.delete(path, headers=hub.headers("olga")).status_code == 204

    assert send_due(hub.database, poster) == 0
    assert code_of(hub.client.delete(path, headers=hub.headers("olga"))) == (404, "WEBHOOK_UNKNOWN")


def test_who_was_deleted_hears_nothing_of_what_becomes_of_their_adapters(
    hub: Hub, receiver: Receiver, poster: Poster
) -> None:
    hub.register_base()
    add(hub, receiver.url, "ann", "ann")
    hub.push(make_archive(), user="ann")
    with hub.database.writing() as session:
        admin_id = accounts.ensure_user(session, "ada")
        session.execute(update(Account).where(Account.id == admin_id).values(is_admin=True))
    admin = hub.headers("ada")
    assert hub.delete("/users/ann", admin).status_code == 204
    send_due(hub.database, poster)
    heard = len(receiver.heard)

    quarantined = hub.put("/adapters/ann/tiny/versions/v1/quarantine", {"reason": "bad"}, admin)

    assert quarantined.status_code == 200
    assert send_due(hub.database, poster) == 0
    assert len(receiver.heard) == heard


def test_a_webhook_of_somebody_else_is_none(hub: Hub, receiver: Receiver) -> None:
    hub.found("acme")
    hub.found("other")
    webhook = add(hub, receiver.url)
    for path in ("", "/deliveries"):
        method = hub.client.delete if not path else hub.client.get
        answer = method(f"/api/v1/namespaces/other/webhooks/{webhook['id']}{path}", headers=hub.headers("olga"))
        assert code_of(answer) == (404, "WEBHOOK_UNKNOWN")
