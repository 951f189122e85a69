"""The pages of a namespace's webhooks: where its changes are sent, what became of each message, and the secrets,
which are on one page once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse
from sqlalchemy.orm import Session

from hub.access.services import HubParts, Reading
from hub.access.visiting import Visiting
from hub.access.writing import Writing, WritingRoute, writing_as
from hub.auth.policy import Action, Principal
from hub.domain import webhooks
from hub.domain.audit import Change, is_of_the_hub
from hub.domain.views.record import NewWebhookView
from hub.errors import HubError, Invalid, Unauthorized
from hub.web.pages import render
from hub.web.settings import Fields, Form
from vera.errors import VeraError

DELIVERIES_PER_PAGE = 50
MAX_URL_CHARS = 500

router = APIRouter(route_class=WritingRoute, prefix="/settings/webhooks/{namespace}", include_in_schema=False)
page = partial(router.api_route, methods=["GET", "HEAD"])
form = partial(router.post, status_code=303, response_class=Response)

Owner = Annotated[Principal, Depends(Visiting(Action.MANAGE_WEBHOOKS))]
Cursor = Annotated[str, Query(max_length=600)]


@page("")
def webhooks_page(request: Request, principal: Owner, namespace: str, session: Reading) -> Response:
    """The webhooks of a namespace, and the form that adds one."""
    return _show_all(request, session, principal, namespace)


@form("")
def add(request: Request, principal: Owner, namespace: str, fields: Fields, parts: HubParts) -> Response:
    """Adds a webhook, and shows its secret this once. What was typed stays on the page when it is refused."""
    url, adapter, actions = _one(fields, "url"), _one(fields, "adapter"), fields.get("action", [])
    try:
        _check_length(url)
        parts.poster.check(url)
        with writing_as(parts, principal) as session:
            made = webhooks.add(session, principal, namespace, url, adapter=adapter or None, actions=actions or None)
    except Unauthorized:
        raise
    except (HubError, VeraError) as error:
        given = {"url": url, "adapter": adapter, "actions": actions}
        with parts.database.reading() as session:
            return _show_all(request, session, principal, namespace, given=given, problem=str(error))
    with parts.database.reading() as session:
        return _show(request, session, principal, namespace, made.id, made=made)


@page("/{webhook_id}")
def webhook_page(
    request: Request, principal: Owner, *, namespace: str, webhook_id: str, session: Reading, cursor: Cursor = ""
) -> Response:
    """What was sent to a webhook, and what came of it."""
    return _show(request, session, principal, namespace, webhook_id, cursor=cursor or None)


@form("/{webhook_id}/secret")
def change_secret(request: Request, principal: Owner, namespace: str, webhook_id: str, parts: HubParts) -> Response:
    """Another secret, shown this once."""
    with writing_as(parts, principal) as session:
        made = webhooks.change_secret(session, principal, namespace, webhook_id)
    with parts.database.reading() as session:
        return _show(request, session, principal, namespace, webhook_id, made=made)


@form("/{webhook_id}/remove")
def remove(principal: Owner, namespace: str, webhook_id: str, session: Writing) -> Response:
    """Sends nothing there any more."""
    webhooks.remove(session, principal, namespace, webhook_id)
    return RedirectResponse(f"/settings/webhooks/{namespace}", 303)


@form("/{webhook_id}/deliveries/{delivery_id}/replay")
def replay(principal: Owner, *, namespace: str, webhook_id: str, delivery_id: str, session: Writing) -> Response:
    """Sends a message again."""
    webhooks.replay(session, principal, namespace, webhook_id, delivery_id)
    return RedirectResponse(f"/settings/webhooks/{namespace}/{webhook_id}", 303)


def _show_all(
    request: Request,
    session: Session,
    principal: Principal,
    namespace: str,
    *,
    given: Mapping[str, object] | None = None,
    problem: str | None = None,
) -> Response:
    return render(
        request,
        "webhooks.html",
        status=422 if problem else 200,
        namespace=namespace,
        webhooks=webhooks.list_webhooks(session, principal, namespace),
        changes=[change.value for change in Change if not is_of_the_hub(change)],
        given=given or {"url": "", "adapter": "", "actions": []},
        problem=problem,
    )


def _show(
    request: Request,
    session: Session,
    principal: Principal,
    namespace: str,
    webhook_id: str,
    *,
    cursor: str | None = None,
    made: NewWebhookView | None = None,
) -> Response:
    found = webhooks.list_deliveries(
        session, principal, namespace, webhook_id, cursor=cursor, limit=DELIVERIES_PER_PAGE
    )
    return render(
        request,
        "webhook.html",
        namespace=namespace,
        webhook=webhooks.get(session, principal, namespace, webhook_id),
        deliveries=found.items,
        next=found.next and f"/settings/webhooks/{namespace}/{webhook_id}?{urlencode({'cursor': found.next})}",
        made=made,
    )


def _check_length(url: str) -> None:
    if len(url) > MAX_URL_CHARS:
        raise Invalid(f"The address has at most {MAX_URL_CHARS} characters: find a shorter one.", code="BODY_INVALID")


def _one(fields: Form, name: str) -> str:
    return next(iter(fields.get(name, [])), "")
