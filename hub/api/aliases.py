"""Aliases: names that move from version to version, and where they were when."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from hub.access.permission import Allowed, Reader
from hub.access.services import Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.parameters import Cursor, Limit
from hub.api.responses import answer
from hub.api.schemas import AliasChange, Promotion
from hub.auth.policy import Action, Principal
from hub.domain import aliases, promoting
from hub.domain.aliases import Expected
from hub.domain.promoting import Gates
from hub.domain.views.page import Page
from hub.domain.views.versions import AliasMoveView, AliasView
from hub.errors import Malformed
from vera.ref import AdapterRef

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/adapters/{namespace}/{name}/aliases", tags=["Aliases"])

_ETAG = re.compile(r'"([1-9][0-9]{0,17})(-protected)?"')

Mover = Annotated[Principal, Depends(Allowed(Action.SET_ALIAS))]
IfMatch = Annotated[str | None, Header(description="The ETag that the alias must have, or `*` for any.")]
IfNoneMatch = Annotated[str | None, Header(description="`*`: the alias must not be set.")]


@router.get("", response_model=Page[AliasView])
def list_aliases(request: Request, reader: Reader, namespace: str, name: str, session: Reading) -> Response:
    """The aliases of an adapter, by name."""
    return answer(request, Page(aliases.list_aliases(session, reader, namespace, name)))


@router.get("/{alias}", response_model=AliasView)
def get_alias(request: Request, reader: Reader, *, namespace: str, name: str, alias: str, session: Reading) -> Response:
    """What an alias means now."""
    view = aliases.get_alias(session, reader, AdapterRef(namespace, name), alias)
    return answer(request, view, etag=etag_of(view))


@router.get("/{alias}/history", response_model=Page[AliasMoveView])
def get_history(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    alias: str,
    session: Reading,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Every move of an alias, newest first: who, when, from where to where."""
    ref = AdapterRef(namespace, name)
    return answer(request, aliases.history(session, reader, ref, alias, cursor=cursor, limit=limit))


@router.get("/{alias}/at", response_model=AliasMoveView)
def get_alias_at(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    alias: str,
    session: Reading,
    time: Annotated[
        str, Query(max_length=40, description="A date, or a date and a time as in ISO 8601; UTC when it names no zone.")
    ],
) -> Response:
    """What an alias meant at a moment: `after` of its last move until then."""
    return answer(request, aliases.alias_at(session, reader, AdapterRef(namespace, name), alias, time))


@router.put("/{alias}", response_model=AliasView, responses={201: {"model": AliasView}})
def set_alias(
    request: Request,
    *,
    principal: Mover,
    namespace: str,
    name: str,
    alias: str,
    body: Annotated[AliasChange, Depends(JsonBody(AliasChange))],
    session: Writing,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Let an alias mean a version. 201 when the alias is new; 412 when it is not what was expected."""
    number = int(body.expected[1:]) if body.expected else None
    view, is_new = aliases.set_alias(
        session,
        principal,
        AdapterRef(namespace, name, body.version),
        alias,
        expected=expected_of(if_match, if_none_match, version=number),
        is_protected=body.protected,
    )
    return answer(request, view, status=201 if is_new else 200, etag=etag_of(view))


@router.post("/{alias}/promotions", response_model=AliasView, responses={201: {"model": AliasView}})
def promote(
    request: Request,
    *,
    principal: Mover,
    namespace: str,
    name: str,
    alias: str,
    body: Annotated[Promotion, Depends(JsonBody(Promotion))],
    session: Writing,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Let an alias mean the version that was evaluated, if it passes every gate. 409 when one fails or is inconclusive."""
    view, is_new = promoting.promote(
        session,
        principal,
        AdapterRef(namespace, name),
        alias,
        Gates(body.evaluation, body.minimum, body.against, body.margin),
        expected=expected_of(if_match, if_none_match),
    )
    return answer(request, view, status=201 if is_new else 200, etag=etag_of(view))


@router.delete("/{alias}", status_code=204, response_class=Response)
def remove_alias(
    *, principal: Mover, namespace: str, name: str, alias: str, session: Writing, if_match: IfMatch = None
) -> None:
    """Remove an alias. Its history stays."""
    ref = AdapterRef(namespace, name)
    aliases.remove_alias(session, principal, ref, alias, expected=expected_of(if_match))


def etag_of(alias: AliasView) -> str:
    """Its revision, so that who has seen the alias can say what they expect it to be still."""
    return f'"{alias.revision}{"-protected" if alias.protected else ""}"'


def expected_of(if_match: str | None, if_none_match: str | None = None, *, version: int | None = None) -> Expected:
    """What the headers say that the alias must be. Raises Malformed."""
    if if_none_match is not None and if_none_match.strip() != "*":
        raise Malformed("If-None-Match can only be * where something is set: it must be new.", code="HEADER_INVALID")
    is_set = False if if_none_match is not None else None
    if if_match is None:
        return Expected(version=version, is_set=is_set)
    if if_match.strip() == "*":
        return Expected(version=version, is_set=True)
    etag = _ETAG.fullmatch(if_match.strip())
    if etag is None:
        raise Malformed("If-Match must be one ETag that the alias had, or *.", code="HEADER_INVALID")
    return Expected(revision=int(etag[1]), version=version, is_set=is_set)
