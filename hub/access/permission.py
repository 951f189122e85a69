"""Who asks, and whether they may: every route declares its action here."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.concurrency import run_in_threadpool

from hub.access.limits import ANONYMOUS, RATES, count, visitor_at
from hub.access.mirror import Found
from hub.access.services import Services, services
from hub.auth import tokens
from hub.auth.policy import Action, Principal, Resource, authorize, is_about_a_namespace, is_permitted
from hub.db.session import Database
from hub.domain import accounts, mirroring
from hub.domain.accounts import SignedIn
from hub.errors import Forbidden, HubError, Unauthorized


class Allowed:
    """The principal of a request, once it is known that they may do `action` as far as the address tells.

    Comes before anything that reads the body: strangers send no bytes that we keep. What only the
    database knows (is the adapter private?) the domain asks `authorize` about, in its own transaction.
    Where that transaction asks anew for all of it (`is_asked_anew`), who might a second ago is let in.
    """

    def __init__(self, action: Action, *, is_asked_anew: bool = False) -> None:
        self.action, self._is_asked_anew = action, is_asked_anew

    async def __call__(self, request: Request, parts: Annotated[Services, Depends(services)]) -> Principal | None:
        secret = self.credential(request)
        principal = await self._principal_of(request, parts, secret) if secret else None
        request.state.principal = principal
        try:
            authorize(principal, self.action, self._addressed(request))
        except Forbidden:
            await run_in_threadpool(_require_own, parts.database, request.path_params.get("namespace"))
            raise
        if parts.settings.has_rate_limits:
            self.count(request, parts, principal)
        if parts.mirror is not None and self.action is Action.READ:
            found = await parts.mirror.look(request.path_params)
            if found is not None and found.is_private and secret:
                # What has just come may be for those alone who have signed in, of whom it was not known yet.
                principal = request.state.principal = await _principal_of(parts, secret)
            if found is not None:
                is_seen = _sees(principal, found)
                told = found if is_seen else await parts.mirror.look_unseen(found)
                request.state.mirrored = told.told(is_seen=is_seen)
        return principal

    def credential(self, request: Request) -> str | None:
        """The secret that the request shows."""
        return _bearer(request)

    def count(self, request: Request, parts: Services, principal: Principal | None) -> None:
        """Raises TooMany for who asks too often. Reading with a token, and lists of one's own, are not counted."""
        if principal is None:
            rate, key = ANONYMOUS, visitor_at(request, parts.settings.trusted_proxies)
        elif self.action in RATES and request.method != "GET":
            rate, key = RATES[self.action], str(principal.account_id)
        else:
            return
        count(request, parts.buckets, rate, key)

    async def _principal_of(self, request: Request, parts: Services, secret: str) -> Principal:
        if self._is_asked_anew:
            lately = parts.tokens.find_lately(tokens.hash_of(secret))
            if lately is not None and is_permitted(lately, self.action, self._addressed(request)):
                return lately
        return await _principal_of(parts, secret)

    def _addressed(self, request: Request) -> Resource | None:
        namespace = request.path_params.get("namespace")
        if namespace is None or not is_about_a_namespace(self.action):
            return None
        return Resource(namespace, request.path_params.get("name"))


_read = Depends(Allowed(Action.READ))
ReadOnly = _read
# Who reads; None is anybody.
Reader = Annotated[Principal | None, _read]


def declared_action(dependant: Dependant) -> Action | None:
    """The action that a route's dependencies ask permission for."""
    if isinstance(dependant.call, Allowed):
        return dependant.call.action
    found = (declared_action(each) for each in dependant.dependencies)
    return next((action for action in found if action is not None), None)


def routes_of(app: FastAPI) -> list[RouteContext]:
    """Every route of the app, those of its routers too."""
    return [route for route in iter_route_contexts(app.routes) if isinstance(route.original_route, APIRoute)]


def require_declared_actions(app: FastAPI) -> None:
    """Raises RuntimeError when a route declares no action: forgetting it must not mean allowing it."""
    forgotten = [str(route.path) for route in routes_of(app) if declared_action(route.dependant) is None]
    if forgotten:
        raise RuntimeError(f"These routes declare no action: {', '.join(forgotten)}.")


def _bearer(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise Unauthorized("The Authorization header must be `Bearer` and a token.", code="TOKEN_INVALID")
    return secret.strip()


async def _principal_of(parts: Services, secret: str) -> Principal:
    """Whom the token speaks for. Raises Unauthorized."""
    stamp, token_hash = parts.database.stamp(), tokens.hash_of(secret)
    known = parts.tokens.find(token_hash, stamp)
    if known is not None:
        return known
    signed_in = await run_in_threadpool(_authenticate, parts.database, secret)
    parts.tokens.keep(token_hash, stamp, signed_in)
    return signed_in.principal


def _authenticate(database: Database, secret: str) -> SignedIn:
    with database.reading() as session:
        signed_in = accounts.authenticate(session, secret)
    if signed_in.is_note_due:
        with suppress(HubError), database.writing() as session:  # a full disk keeps nobody from reading
            accounts.note_use(session, signed_in.principal)
    return signed_in


def _sees(principal: Principal | None, found: Found) -> bool:
    resource = Resource(found.asked.namespace, found.asked.name, found.is_private)
    return is_permitted(principal, Action.READ, resource)


def _require_own(database: Database, namespace: str | None) -> None:
    """Raises Forbidden, and says why, for a namespace that is a copy."""
    with database.reading() as session:
        mirroring.require_own(session, namespace)
