"""Trusted publishing: who may push without a secret, and the token that a job gets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed
from hub.access.services import HubParts, Reading, Services
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.responses import answer
from hub.api.schemas import JobIdentity, NewPublisher
from hub.auth.identities import Identity
from hub.auth.policy import Action, Principal
from hub.domain import publishers
from hub.domain.views.accounts import JobTokenView, OidcView, PublisherView
from hub.domain.views.page import Page
from hub.errors import NotFound

router = APIRouter(route_class=WritingRoute, prefix="/api/v1", tags=["Trusted publishing"])

Maintainer = Annotated[Principal, Depends(Allowed(Action.MANAGE_PUBLISHERS))]
Anyone = [Depends(Allowed(Action.SIGN_IN))]


@router.get("/oidc", response_model=OidcView, dependencies=Anyone)
def describe_oidc(request: Request, parts: HubParts) -> Response:
    """What a job must ask its CI system for: the audience, and the issuers that are trusted."""
    return answer(request, OidcView(audience=audience(parts), issuers=tuple(parts.settings.oidc_issuers)))


@router.post("/oidc/token", status_code=201, response_model=JobTokenView, dependencies=Anyone)
def mint_token(
    request: Request, body: Annotated[JobIdentity, Depends(JsonBody(JobIdentity))], parts: HubParts
) -> Response:
    """A token of a quarter of an hour for the identity of a job."""
    identity: Identity = parts.issuers.verify(body.token, audience(parts))
    with parts.database.writing() as session:
        return answer(request, publishers.mint(session, identity, body.namespace), status=201)


@router.get("/namespaces/{namespace}/publishers", response_model=Page[PublisherView])
def list_publishers(request: Request, principal: Maintainer, namespace: str, session: Reading) -> Response:
    """The workflows that may push to a namespace."""
    return answer(request, Page(publishers.list_publishers(session, principal, namespace)))


@router.post("/namespaces/{namespace}/publishers", status_code=201, response_model=PublisherView)
def add_publisher(
    request: Request,
    principal: Maintainer,
    namespace: str,
    body: Annotated[NewPublisher, Depends(JsonBody(NewPublisher))],
    session: Writing,
) -> Response:
    """Let a workflow push to a namespace, or to one adapter in it."""
    view = publishers.add(session, principal, namespace, **body.model_dump())
    return answer(request, view, status=201)


@router.delete("/namespaces/{namespace}/publishers/{publisher_id}", status_code=204, response_class=Response)
def remove_publisher(principal: Maintainer, namespace: str, publisher_id: str, session: Writing) -> None:
    """Trust a workflow no longer."""
    publishers.remove(session, principal, namespace, publisher_id)


def audience(parts: Services) -> str:
    """What an identity must be made for: this hub's own address. Raises NotFound where it has none."""
    if parts.settings.public_url is None:
        raise NotFound(
            "This hub has no address that a CI system could name: its operator sets VERA_HUB_PUBLIC_URL.",
            code="OIDC_DISABLED",
        )
    return parts.settings.public_url.rstrip("/")
