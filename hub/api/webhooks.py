"""Webhooks of a namespace, and what was sent to them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed
from hub.access.services import HubParts, Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.parameters import Cursor, Limit
from hub.api.responses import answer
from hub.api.schemas import NewWebhook
from hub.auth.policy import Action, Principal
from hub.domain import webhooks
from hub.domain.views.page import Page
from hub.domain.views.record import DeliveryView, NewWebhookView, WebhookView

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/namespaces/{namespace}/webhooks", tags=["Webhooks"])

Owner = Annotated[Principal, Depends(Allowed(Action.MANAGE_WEBHOOKS))]


def reachable(body: Annotated[NewWebhook, Depends(JsonBody(NewWebhook))], parts: HubParts) -> NewWebhook:
    """The webhook that is wanted, whose address was looked at before a transaction begins."""
    parts.poster.check(body.url)
    return body


@router.get("", response_model=Page[WebhookView])
def list_webhooks(request: Request, principal: Owner, namespace: str, session: Reading) -> Response:
    """The webhooks of a namespace."""
    return answer(request, Page(webhooks.list_webhooks(session, principal, namespace)))


@router.post("", status_code=201, response_model=NewWebhookView)
def add_webhook(
    request: Request,
    principal: Owner,
    namespace: str,
    body: Annotated[NewWebhook, Depends(reachable)],
    session: Writing,
) -> Response:
    """Have what is recorded sent to an address. Its secret is shown this once."""
    view = webhooks.add(session, principal, namespace, body.url, adapter=body.adapter, actions=body.actions)
    return answer(request, view, status=201)


@router.post("/{webhook_id}/secret", response_model=NewWebhookView)
def change_secret(request: Request, principal: Owner, namespace: str, webhook_id: str, session: Writing) -> Response:
    """Give a webhook another secret. What is sent is signed with both for a day."""
    return answer(request, webhooks.change_secret(session, principal, namespace, webhook_id))


@router.delete("/{webhook_id}", status_code=204, response_class=Response)
def remove_webhook(principal: Owner, namespace: str, webhook_id: str, session: Writing) -> None:
    """Send nothing there any more."""
    webhooks.remove(session, principal, namespace, webhook_id)


@router.get("/{webhook_id}/deliveries", response_model=Page[DeliveryView])
def list_deliveries(
    request: Request,
    principal: Owner,
    *,
    namespace: str,
    webhook_id: str,
    session: Reading,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """What was sent to a webhook, and what came of it: the newest first."""
    found = webhooks.list_deliveries(session, principal, namespace, webhook_id, cursor=cursor, limit=limit)
    return answer(request, found)


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay", response_model=DeliveryView)
def replay(
    request: Request, principal: Owner, *, namespace: str, webhook_id: str, delivery_id: str, session: Writing
) -> Response:
    """Send a message again, with the same id."""
    return answer(request, webhooks.replay(session, principal, namespace, webhook_id, delivery_id))
