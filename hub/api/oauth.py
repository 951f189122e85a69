"""Signing in as OAuth 2.0 spells it, for programs that know no other way: a code for a device that a person answers in
a browser (RFC 8628), and the identity of a CI job for a token (RFC 8693). Both give a token like any other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response

from hub.access.limits import DEVICE_POLLS, visitor_at
from hub.access.permission import Allowed
from hub.access.receiving import chunks
from hub.access.services import HubParts, Services, services
from hub.api.errors import Problem
from hub.api.publishers import audience
from hub.api.responses import hub_url
from hub.auth.policy import Action, Principal
from hub.domain import device_logins, publishers
from hub.errors import Invalid, Malformed, TooMany, Unsupported
from vera import strict_json

router = APIRouter(prefix="/oauth", include_in_schema=False)

PATH = "/oauth/"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105  # the name of a grant
_ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  # the name of a kind
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
_MAX_BODY = 32 * 1024
# How long a program is to wait before it asks again whether somebody has answered.
INTERVAL_S = 2
# Ours, in the words of RFC 6749 (5.2) and RFC 8628 (3.5); whatever else is wrong is wrong with the grant.
_THEIR_CODES: Mapping[str, str] = {
    "AUTHORIZATION_PENDING": "authorization_pending",
    "ACCESS_DENIED": "access_denied",
    "DEVICE_CODE_EXPIRED": "expired_token",
    "RATE_LIMITED": "slow_down",
    "GRANT_UNSUPPORTED": "unsupported_grant_type",
    "BODY_INVALID": "invalid_request",
    "JSON_INVALID": "invalid_request",
    "OIDC_ISSUER_SILENT": "temporarily_unavailable",
}

Fields = Mapping[str, str]
Anyone = Annotated[Principal | None, Depends(Allowed(Action.SIGN_IN))]


async def read_fields(request: Request, _: Anyone, parts: Annotated[Services, Depends(services)]) -> Fields:
    """What was sent, as a form or as an object of JSON. Raises Malformed and Unsupported."""
    body = b"".join([chunk async for chunk in chunks(request, _MAX_BODY, parts.intake)])
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=20))
        if kind == "application/json":
            sent = strict_json.loads(body, max_depth=2)
            if isinstance(sent, dict):
                return {name: value for name, value in sent.items() if isinstance(value, str)}
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise Malformed("The body is neither a form nor an object of JSON: send one of them.") from error
    raise Unsupported("The body must be application/x-www-form-urlencoded or application/json.")


Sent = Annotated[Fields, Depends(read_fields)]


@router.post("/device")
def begin_device_login(request: Request, _: Anyone, sent: Sent, parts: HubParts) -> Response:
    """Ask to be let in: a code to show, and where somebody is to answer it."""
    client = _printable(sent.get("device_name") or request.headers.get("user-agent") or "a program without a name")
    address = visitor_at(request, parts.settings.trusted_proxies)
    with parts.database.writing() as session:
        begun = device_logins.begin(session, client, address)
    page = f"{hub_url(request)}/settings/device"
    return _given(
        device_code=begun.device_code,
        user_code=begun.user_code,
        verification_uri=page,
        verification_uri_complete=f"{page}/{begun.user_code}",
        expires_in=begun.lifetime_s,
        interval=INTERVAL_S,
    )


@router.post("/token")
def give_token(_: Anyone, sent: Sent, parts: HubParts) -> Response:
    """The token that a grant is good for: of a device that was let in, or of a job of a trusted publisher."""
    grant = _needed(sent, "grant_type")
    if grant == DEVICE_CODE:
        return _collect(parts, _needed(sent, "device_code"))
    if grant == TOKEN_EXCHANGE:
        return _exchange(parts, sent)
    raise Invalid(
        f"{grant[:80]!r} is no grant that is taken here: there are {DEVICE_CODE} and {TOKEN_EXCHANGE}.",
        code="GRANT_UNSUPPORTED",
    )


def as_refusal(request: Request, problem: Problem) -> Response | None:
    """The problem as OAuth tells it, with what this hub always says; None at any other address."""
    if not request.url.path.startswith(PATH):
        return None
    error = _THEIR_CODES.get(problem.code, "invalid_request" if problem.status in (404, 405, 415) else "invalid_grant")
    body = {
        "error": error,
        "error_description": problem.detail,
        "code": problem.code,
        "detail": problem.detail,
        "facts": problem.facts,
    }
    is_about_the_grant = problem.status in (401, 403, 409, 410, 422)
    status = HTTPStatus.BAD_REQUEST if is_about_the_grant else problem.status
    headers = {"Cache-Control": "no-store", **problem.headers}
    return Response(json.dumps(body, default=str).encode("ascii"), status, headers, "application/json")


def _collect(parts: Services, device_code: str) -> Response:
    with parts.database.reading() as session:  # what is asked every few seconds writes nothing
        device_logins.require_begun(session, device_code)  # only these are counted: what else is sent is anything
        allowance, is_let_in = parts.buckets.take(DEVICE_POLLS, device_code)
        if not is_let_in:
            raise TooMany("That is asked too often: wait longer between.", retry_after_s=allowance.full_in_s)
        device_logins.require_answer(session, device_code)
    with parts.database.writing() as session:
        made = device_logins.collect(session, device_code)
    return _given(
        access_token=made.token,
        token_type="bearer",  # noqa: S106  # the kind of it
        expires_in=made.lifetime_s,
        scope=" ".join(made.scopes),
    )


def _exchange(parts: Services, sent: Fields) -> Response:
    if sent.get("subject_token_type", _ID_TOKEN) != _ID_TOKEN:
        raise Invalid(f"Only an identity is exchanged here: its kind is {_ID_TOKEN}.", code="BODY_INVALID")
    identity = parts.issuers.verify(_needed(sent, "subject_token"), audience(parts))
    with parts.database.writing() as session:
        made = publishers.mint_for(session, identity, _needed(sent, "resource"))
    return _given(
        access_token=made.token,
        issued_token_type=_ACCESS_TOKEN,
        token_type="bearer",  # noqa: S106  # the kind of it
        expires_in=int(publishers.LIFETIME.total_seconds()),
        scope=" ".join(made.scopes),
    )


def _given(**fields: object) -> Response:
    headers = {"Cache-Control": "no-store", "Pragma": "no-cache"}
    return Response(json.dumps(fields).encode("ascii"), 200, headers, "application/json")


def _needed(sent: Fields, name: str) -> str:
    if not sent.get(name):
        raise Malformed(f"The body lacks {name}: send it too.")
    return sent[name]


def _printable(text: str) -> str:
    """What a program calls itself, as a page and a record may show it."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:200]
