"""What happened: the record, feeds and webhooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sdk.client.addresses import segment, webhooks_path
from sdk.client.wire import Wire

if TYPE_CHECKING:
    from sdk.models.record import AuditEvent, Delivery, NewWebhook, Webhook


class Record(Wire):
    """What happened: the record, feeds and webhooks."""

    def audit(self, namespace: str, adapter: str | None = None) -> Iterator[AuditEvent]:
        """Who has changed what in a namespace, or of one adapter in it: the newest first. For owners and admins."""
        from sdk.models.record import AuditEvent

        return self._pages(f"/api/v1/namespaces/{segment(namespace)}/audit", {"adapter": adapter}, AuditEvent)

    def audit_of_hub(self) -> Iterator[AuditEvent]:
        """Who has changed users and bases: the newest first. For admins."""
        from sdk.models.record import AuditEvent

        return self._pages("/api/v1/audit", {}, AuditEvent)

    def feed(self, namespace: str, adapter: str | None = None) -> bytes:
        """What lately became of an adapter, or of those of a namespace, as Atom."""
        path = f"/api/v1/namespaces/{segment(namespace)}/feed"
        if adapter is not None:
            path = f"/api/v1/adapters/{segment(namespace)}/{segment(adapter)}/feed"
        return self._get(path).body

    def list_webhooks(self, namespace: str) -> Iterator[Webhook]:
        from sdk.models.record import Webhook

        return self._pages(webhooks_path(namespace), {}, Webhook)

    def add_webhook(
        self, namespace: str, url: str, *, adapter: str | None = None, actions: Sequence[str] | None = None
    ) -> NewWebhook:
        """Has the hub send what is recorded in `namespace`, or of its adapter `adapter` alone, to `url`."""
        from sdk.models.record import NewWebhook

        body = {"url": url, "adapter": adapter, "actions": None if actions is None else list(actions)}
        return NewWebhook.from_json(self._post(webhooks_path(namespace), body).json())

    def change_webhook_secret(self, namespace: str, webhook_id: str) -> NewWebhook:
        """Another secret for the webhook. What is sent is signed with both for a day."""
        from sdk.models.record import NewWebhook

        return NewWebhook.from_json(self._post(f"{webhooks_path(namespace)}/{segment(webhook_id)}/secret", {}).json())

    def remove_webhook(self, namespace: str, webhook_id: str) -> None:
        self._delete(f"{webhooks_path(namespace)}/{segment(webhook_id)}")

    def list_deliveries(self, namespace: str, webhook_id: str) -> Iterator[Delivery]:
        """What was sent to a webhook, or waits to be: the newest first."""
        from sdk.models.record import Delivery

        return self._pages(f"{webhooks_path(namespace)}/{segment(webhook_id)}/deliveries", {}, Delivery)

    def replay_delivery(self, namespace: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Has a message sent again, with the same id."""
        from sdk.models.record import Delivery

        path = f"{webhooks_path(namespace)}/{segment(webhook_id)}/deliveries/{segment(delivery_id)}/replay"
        return Delivery.from_json(self._post(path, {}, is_idempotent=True).json())
