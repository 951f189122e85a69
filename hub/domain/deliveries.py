"""Messages on their way to webhooks: enqueued with a change, sent by a thread of the server, and tried again.

A message is taken for half a minute before it is sent. Whoever took it and was killed has sent it or has not: it is
sent once more then, with the same id.
"""

from __future__ import annotations

import json
import random
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from hub.db import session as db
from hub.db.models.record import AuditEvent, Delivery, Webhook
from hub.db.queries import webhooks
from hub.db.session import Database
from hub.sending import signing
from hub.sending.posting import Outcome, Poster

LOOK_EVERY_S = 1.0
# How long after each failed attempt the next one is made: 29 hours in all, as the specification proposes.
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 300, 1800, 7200, 18_000, 36_000, 36_000))
KEPT = timedelta(days=30)
_LEASE = timedelta(seconds=30)
_AT_ONCE = 8
# A server that is stopped waits for a round to end.
_ROUND_S = 5.0
_AT_ONCE_EACH = 2
_GONE = 410


@dataclass(frozen=True)
class _Message:
    """What is sent, taken out of the database so that no transaction is open meanwhile."""

    delivery_id: int
    webhook_id: int
    attempts: int
    url: str
    secrets: tuple[str, ...]
    key: str
    body: bytes


def enqueue(session: Session, event: AuditEvent) -> None:
    """Enqueues a message for every webhook that is to hear of the event."""
    for hearer in webhooks.hearing_of(session, event.chain, event.adapter):
        if hearer.actions is not None and event.action not in hearer.actions:
            continue
        session.add(
            Delivery(
                webhook_id=hearer.id,
                key=f"msg_{secrets.token_hex(16)}",
                action=event.action,
                body=_payload(event),
                state="waiting",
                attempts=0,
                next_at=event.at,
                created_at=event.at,
            )
        )


def send_due(database: Database, poster: Poster) -> int:
    """Sends what is due now, several at once, for some seconds at most; says how many were sent. Each is sent by one."""
    sent, began = 0, time.monotonic()
    while time.monotonic() - began < _ROUND_S and (messages := _take(database)):
        with ThreadPoolExecutor(_AT_ONCE, "webhook") as pool:
            for message, outcome in zip(messages, pool.map(lambda each: _send(poster, each), messages), strict=True):
                with database.writing() as session:
                    _keep(session, message, outcome)
        sent += len(messages)
    return sent


def _take(database: Database) -> Sequence[_Message]:
    with database.reading() as session:
        if not webhooks.has_due(session, db.now(session)):
            return ()
    with database.writing() as session:
        now = db.now(session)
        taken = webhooks.take_due(session, now, until=now + _LEASE, limit=_AT_ONCE, each=_AT_ONCE_EACH)
        return [
            _Message(
                each.id,
                each.webhook_id,
                each.attempts,
                each.webhook.url,
                _secrets_of(each.webhook, now),
                each.key,
                each.body.encode(),
            )
            for each in taken
        ]


def _secrets_of(webhook: Webhook, now: datetime) -> tuple[str, ...]:
    """The secret, and the one before it for as long as receivers may have only that."""
    if webhook.old_secret is None or webhook.old_secret_until is None or webhook.old_secret_until <= now:
        return (webhook.secret,)
    return webhook.secret, webhook.old_secret


def _send(poster: Poster, message: _Message) -> Outcome:
    timestamp = int(datetime.now(UTC).timestamp())
    headers = signing.headers(message.secrets, message.key, timestamp, message.body)
    return poster.post(message.url, headers, message.body)


def _keep(session: Session, message: _Message, outcome: Outcome) -> None:
    """Keeps what came of it: done, to be tried again, or given up."""
    now = db.now(session)
    state, next_at, error = "done", now, outcome.error
    if not outcome.is_delivered:
        error = error or f"The answer was {outcome.status}, and only 2xx means that it was received."
        is_last = message.attempts > len(PAUSES) or outcome.status == _GONE
        state = "failed" if is_last else "waiting"
        next_at = now if is_last else now + PAUSES[message.attempts - 1] * random.uniform(1, 1.2)
    webhooks.note_outcome(
        session,
        message.delivery_id,
        message.attempts,
        state=state,
        next_at=next_at,
        tried_at=now,
        status=outcome.status,
        error=None if error is None else error[:500],
        milliseconds=outcome.milliseconds,
    )
    if outcome.status == _GONE:
        webhooks.disable(session, message.webhook_id, at=now)


def _payload(event: AuditEvent) -> str:
    """The message: what the record says, without who used which token."""
    data = {
        "namespace": event.chain,
        "subject": event.subject,
        "actor": event.actor,
        "facts": event.facts,
        "number": event.number,
        "hash": event.hash,
    }
    at = event.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return json.dumps({"type": event.action, "timestamp": at, "data": data}, separators=(",", ":"))
