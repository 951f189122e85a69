"""The one place that says who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from hub.auth.tokens import TokenKind
from hub.errors import Forbidden, Unauthorized


class Action(StrEnum):
    """What a route does. Every route declares one."""

    READ = "read"
    IDENTIFY = "identify"
    REGISTER_BASE = "register-base"
    STORE_PROJECTION = "store-projection"
    PUSH = "push"
    REQUEST_EVALUATION = "request-evaluation"
    EVALUATE = "evaluate"


class Scope(StrEnum):
    """What a token was given for."""

    PUSH = "repo:push"
    SUBMIT = "eval:submit"
    LEASE = "eval:lease"


SCOPES_OF_KIND = {
    TokenKind.PERSONAL: (Scope.PUSH, Scope.SUBMIT),
    TokenKind.WORKER: (Scope.LEASE,),
    TokenKind.BOOTSTRAP: (),
}
_ANONYMOUS = frozenset({Action.READ})
_SCOPE_OF = {
    Action.REGISTER_BASE: Scope.PUSH,
    Action.STORE_PROJECTION: Scope.PUSH,
    Action.PUSH: Scope.PUSH,
    Action.REQUEST_EVALUATION: Scope.SUBMIT,
    Action.EVALUATE: Scope.LEASE,
}


@dataclass(frozen=True)
class Principal:
    """Who a valid token speaks for. `kind` is "user" or "worker"."""

    account_id: int
    token_id: int
    name: str
    kind: str
    scopes: frozenset[str]


def authorize(principal: Principal | None, action: Action, namespace: str | None = None) -> None:
    """Returns when `principal` may do `action`, in `namespace` where it writes to one.

    Raises Unauthorized for a missing token and Forbidden for one that may not.
    """
    if action in _ANONYMOUS:
        return
    if principal is None:
        raise Unauthorized(
            "This needs a token and none was sent: log in with `vera-hub login`, or set VERA_HUB_TOKEN.",
            code="TOKEN_MISSING",
        )
    scope = _SCOPE_OF.get(action)
    if scope is not None and scope not in principal.scopes:
        raise Forbidden(
            f"This token was not given the scope {scope}: use one that was.", code="SCOPE_INSUFFICIENT", scope=scope
        )
    if action is Action.PUSH and namespace != principal.name:
        raise Forbidden(
            f"{principal.name} may not push to {namespace}: push to {principal.name}/NAME.",
            namespace=namespace,
            user=principal.name,
        )
