"""Webhooks: addresses that hear of what is recorded. A message is enqueued in the transaction of the change it tells
of, so that there is one for every change that was made and none for one that was not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db import session as db
from hub.db.models.accounts import Account
from hub.db.models.record import Delivery, Webhook
from hub.db.queries import accounts as account_rows
from hub.db.queries import webhooks
from hub.domain import paging
from hub.domain.audit import Change, record
from hub.domain.views.page import Page
from hub.domain.views.record import DeliveryView, NewWebhookView, WebhookView
from hub.errors import Conflict, Invalid, NotFound
from hub.sending import signing
from vera.ref import check_adapter_id

MAX_WEBHOOKS = 20
# Long enough to bring a new secret to every receiver.
OLD_SECRET_LASTS = timedelta(hours=24)


def list_webhooks(session: Session, principal: Principal, namespace: str) -> tuple[WebhookView, ...]:
    """The webhooks of a namespace, the earliest first."""
    account = _managed(session, principal, namespace)
    return tuple(_view(each, namespace, each.created_by.name) for each in webhooks.of_account(session, account.id))


def get(session: Session, principal: Principal, namespace: str, webhook_id: str) -> WebhookView:
    """One webhook. Raises NotFound."""
    webhook = _find(session, principal, namespace, webhook_id)
    return _view(webhook, namespace, webhook.created_by.name)


def add(
    session: Session,
    principal: Principal,
    namespace: str,
    url: str,
    *,
    adapter: str | None = None,
    actions: Sequence[str] | None = None,
) -> NewWebhookView:
    """Sends what is recorded in the namespace, or of one adapter in it, to `url`, which the caller has checked
    (`Poster.check`). The secret that signs is in no later answer. The first message tells of the webhook itself.

    Raises Invalid for an unknown action, and Conflict when there are too many.
    """
    account = _managed(session, principal, namespace)
    if adapter is not None:
        check_adapter_id(namespace, adapter)
    unknown = sorted(set(actions or ()) - {change.value for change in Change})
    if unknown:
        raise Invalid(
            f"{unknown[0][:40]!r} is nothing that is recorded: there are {', '.join(Change)}.", code="ACTION_UNKNOWN"
        )
    account_rows.hold(session, account.id)
    if webhooks.count(session, account.id) >= MAX_WEBHOOKS:
        raise Conflict(
            f"{namespace} has {MAX_WEBHOOKS} webhooks, and more are not kept: remove one.", code="WEBHOOKS_TOO_MANY"
        )
    webhook = Webhook(
        account_id=account.id,
        adapter_name=adapter,
        url=url,
        secret=signing.new_secret(),
        actions=sorted(set(actions)) if actions else None,
        created_by_id=principal.account_id,
        created_at=db.now(session),
    )
    session.add(webhook)
    session.flush()
    record(session, principal, Change.WEBHOOK_ADDED, _target(webhook, namespace), {"id": webhook.id, "url": url})
    return NewWebhookView(**vars(_view(webhook, namespace, principal.name)), secret=webhook.secret)


def remove(session: Session, principal: Principal, namespace: str, webhook_id: str) -> None:
    """Removes a webhook with its deliveries. Raises NotFound."""
    webhook = _find(session, principal, namespace, webhook_id)
    target, facts = _target(webhook, namespace), {"id": webhook.id, "url": webhook.url}
    webhooks.remove(session, webhook.id)
    record(session, principal, Change.WEBHOOK_REMOVED, target, facts)


def change_secret(session: Session, principal: Principal, namespace: str, webhook_id: str) -> NewWebhookView:
    """Another secret for the webhook, which is in no later answer. Messages are signed with both, for OLD_SECRET_LASTS;
    one that was old before is good no longer. Raises NotFound."""
    webhook = _find(session, principal, namespace, webhook_id)
    webhook.old_secret, webhook.old_secret_until = webhook.secret, db.now(session) + OLD_SECRET_LASTS
    webhook.secret = signing.new_secret()
    session.flush()
    facts = {"id": webhook.id, "url": webhook.url}
    record(session, principal, Change.WEBHOOK_SECRET_CHANGED, _target(webhook, namespace), facts)
    return NewWebhookView(**vars(_view(webhook, namespace, webhook.created_by.name)), secret=webhook.secret)


def list_deliveries(
    session: Session,
    principal: Principal,
    namespace: str,
    webhook_id: str,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[DeliveryView]:
    """What was sent to a webhook, or waits to be, the newest first. Raises NotFound."""
    webhook = _find(session, principal, namespace, webhook_id)
    keys = paging.decode(session, cursor, "deliveries", int)
    rows = webhooks.deliveries(session, webhook.id, before=int(keys[0]) if keys else None, limit=limit + 1)
    return paging.page(rows, limit, _delivery_view, lambda row: paging.encode(session, "deliveries", row.id))


def replay(session: Session, principal: Principal, namespace: str, webhook_id: str, delivery_id: str) -> DeliveryView:
    """Sends a message again: the same one, with the same id, so that a receiver that has it can tell. A webhook that
    was given up as gone is sent to again. Raises NotFound."""
    webhook = _find(session, principal, namespace, webhook_id)
    delivery = webhooks.delivery(session, _number(delivery_id), webhook.id)
    if delivery is None:
        raise NotFound(
            f"There is no delivery {delivery_id[:20]}: `vera-hub webhook deliveries` shows them.",
            code="DELIVERY_UNKNOWN",
        )
    webhook.disabled_at = None
    delivery.state, delivery.attempts, delivery.next_at = "waiting", 0, db.now(session)
    session.flush()
    return _delivery_view(delivery)


def _find(session: Session, principal: Principal, namespace: str, webhook_id: str) -> Webhook:
    account = _managed(session, principal, namespace)
    webhook = webhooks.by_id(session, _number(webhook_id), account.id)
    if webhook is None:
        raise NotFound(
            f"{namespace} has no webhook {webhook_id[:20]}: `vera-hub webhook list` shows them.", code="WEBHOOK_UNKNOWN"
        )
    return webhook


def _managed(session: Session, principal: Principal, namespace: str) -> Account:
    authorize(principal, Action.MANAGE_WEBHOOKS, Resource(namespace))
    account = account_rows.find(session, namespace)
    assert account is not None, "there is a role in it"
    return account


def _number(text: str) -> int:
    return int(text) if text.isdecimal() and len(text) < 19 else 0


def _target(webhook: Webhook, namespace: str) -> str:
    return namespace if webhook.adapter_name is None else f"{namespace}/{webhook.adapter_name}"


def _view(webhook: Webhook, namespace: str, created_by: str) -> WebhookView:
    return WebhookView(
        id=str(webhook.id),
        target=_target(webhook, namespace),
        url=webhook.url,
        actions=None if webhook.actions is None else tuple(webhook.actions),
        created_by=created_by,
        created_at=webhook.created_at,
        disabled_at=webhook.disabled_at,
        old_secret_until=webhook.old_secret_until,
    )


def _delivery_view(delivery: Delivery) -> DeliveryView:
    is_waiting = delivery.state == "waiting"
    return DeliveryView(
        id=str(delivery.id),
        message_id=delivery.key,
        action=delivery.action,
        payload=json.loads(delivery.body),
        state=delivery.state,  # type: ignore[arg-type]  # the table's CHECK holds it to the three states
        attempts=delivery.attempts,
        status=delivery.status,
        error=delivery.error,
        milliseconds=delivery.milliseconds,
        created_at=delivery.created_at,
        tried_at=delivery.tried_at,
        next_at=delivery.next_at if is_waiting else None,
    )
