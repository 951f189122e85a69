"""The one place that says who may do what.

    may = role in the namespace ∩ scopes of the token ∩ names the token is restricted to

`authorize` is asked twice: by the door, before a body is read, with what the address tells; and by the
domain, in the transaction that acts, with what is stored. Lists are joined to `viewer_of` instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from hub.auth.tokens import TokenKind
from hub.db.queries.visibility import ANYBODY, Viewer
from hub.errors import Forbidden, NotFound, Unauthorized


class Role(StrEnum):
    """What somebody is in a namespace; each may what those before it may."""

    READER = "reader"
    PUBLISHER = "publisher"
    MAINTAINER = "maintainer"
    OWNER = "owner"

    def covers(self, needed: Role) -> bool:
        order = list(Role)
        return order.index(self) >= order.index(needed)


class Scope(StrEnum):
    """What a token was given for."""

    READ = "repo:read"
    PUSH = "repo:push"
    YANK = "repo:yank"
    MANAGE = "repo:admin"
    READ_ORGANISATION = "org:read"
    MANAGE_ORGANISATION = "org:admin"
    SUBMIT = "eval:submit"
    LEASE = "eval:lease"
    TOKENS = "token:manage"
    ADMIN = "admin"


class Action(StrEnum):
    """What a route does. Every route declares one."""

    READ = "read"
    READ_FILES = "read-files"
    REQUEST_ACCESS = "request-access"
    IDENTIFY = "identify"
    REGISTER_BASE = "register-base"
    STORE_PROJECTION = "store-projection"
    PUSH = "push"
    CREATE_ADAPTER = "create-adapter"
    MANAGE_ADAPTER = "manage-adapter"
    TRANSFER_ADAPTER = "transfer-adapter"
    YANK = "yank"
    DELETE_VERSION = "delete-version"
    QUARANTINE = "quarantine"
    SET_ALIAS = "set-alias"
    SET_PROTECTED_ALIAS = "set-protected-alias"
    REQUEST_EVALUATION = "request-evaluation"
    CANCEL_EVALUATION = "cancel-evaluation"
    EVALUATE = "evaluate"
    READ_ORGANISATION = "read-organisation"
    CREATE_ORGANISATION = "create-organisation"
    MANAGE_ORGANISATION = "manage-organisation"
    LEAVE_ORGANISATION = "leave-organisation"
    ANSWER_INVITATION = "answer-invitation"
    MANAGE_TOKENS = "manage-tokens"
    MANAGE_SERVICE_TOKENS = "manage-service-tokens"
    MANAGE_PUBLISHERS = "manage-publishers"
    MANAGE_WEBHOOKS = "manage-webhooks"
    READ_AUDIT = "read-audit"
    READ_HUB_AUDIT = "read-hub-audit"
    READ_METRICS = "read-metrics"
    MANAGE_USERS = "manage-users"
    SIGN_IN = "sign-in"
    USE_CODE = "use-code"
    SET_PASSWORD = "set-password"  # noqa: S105  # an action


@dataclass(frozen=True)
class Rule:
    """What an action asks for. `role` is in the namespace of its resource (an admin of the hub needs none where
    `is_also_for_admins`), to which `is_about_a_namespace`
    says whether the address alone leads: for an adapter that may be hidden, it does not."""

    scope: Scope | None = None
    role: Role | None = None
    is_open: bool = False
    is_for_admins: bool = False
    is_also_for_admins: bool = False
    is_for_codes: bool = False
    is_about_a_namespace: bool = False


RULES: Mapping[Action, Rule] = {
    Action.READ: Rule(is_open=True),
    Action.READ_FILES: Rule(is_open=True),
    Action.REQUEST_ACCESS: Rule(Scope.READ),
    Action.IDENTIFY: Rule(),
    Action.REGISTER_BASE: Rule(Scope.PUSH),
    Action.STORE_PROJECTION: Rule(Scope.PUSH),
    Action.PUSH: Rule(Scope.PUSH, Role.PUBLISHER, is_about_a_namespace=True),
    Action.CREATE_ADAPTER: Rule(Scope.PUSH, Role.MAINTAINER, is_about_a_namespace=True),
    Action.MANAGE_ADAPTER: Rule(Scope.MANAGE, Role.MAINTAINER),
    Action.TRANSFER_ADAPTER: Rule(Scope.MANAGE, Role.OWNER),
    Action.YANK: Rule(Scope.YANK, Role.PUBLISHER),
    Action.DELETE_VERSION: Rule(Scope.MANAGE, Role.MAINTAINER),
    Action.QUARANTINE: Rule(Scope.ADMIN, is_for_admins=True),
    Action.SET_ALIAS: Rule(Scope.PUSH, Role.PUBLISHER),
    Action.SET_PROTECTED_ALIAS: Rule(Scope.MANAGE, Role.MAINTAINER),
    Action.REQUEST_EVALUATION: Rule(Scope.SUBMIT),
    Action.CANCEL_EVALUATION: Rule(Scope.SUBMIT, Role.PUBLISHER, is_also_for_admins=True),
    Action.EVALUATE: Rule(Scope.LEASE),
    Action.READ_ORGANISATION: Rule(Scope.READ_ORGANISATION, Role.READER, is_about_a_namespace=True),
    Action.CREATE_ORGANISATION: Rule(Scope.MANAGE_ORGANISATION),
    Action.MANAGE_ORGANISATION: Rule(Scope.MANAGE_ORGANISATION, Role.OWNER, is_about_a_namespace=True),
    Action.LEAVE_ORGANISATION: Rule(Scope.MANAGE_ORGANISATION, Role.READER, is_about_a_namespace=True),
    Action.ANSWER_INVITATION: Rule(Scope.MANAGE_ORGANISATION),
    Action.MANAGE_TOKENS: Rule(Scope.TOKENS),
    Action.MANAGE_SERVICE_TOKENS: Rule(Scope.TOKENS, Role.OWNER, is_about_a_namespace=True),
    # The scope that only signing in gives: a program must not leave a door open behind it.
    Action.MANAGE_PUBLISHERS: Rule(Scope.TOKENS, Role.MAINTAINER, is_about_a_namespace=True),
    # What a webhook hears is what its owners read in the record.
    Action.MANAGE_WEBHOOKS: Rule(Scope.MANAGE_ORGANISATION, Role.OWNER, is_about_a_namespace=True),
    Action.READ_AUDIT: Rule(Scope.READ_ORGANISATION, Role.OWNER, is_also_for_admins=True, is_about_a_namespace=True),
    Action.READ_HUB_AUDIT: Rule(Scope.ADMIN, is_for_admins=True),
    Action.READ_METRICS: Rule(Scope.ADMIN, is_for_admins=True),
    Action.MANAGE_USERS: Rule(Scope.ADMIN, is_for_admins=True),
    Action.SIGN_IN: Rule(is_open=True),
    Action.USE_CODE: Rule(is_for_codes=True),
    Action.SET_PASSWORD: Rule(Scope.TOKENS),
}

# What somebody who has signed in may do: all that their roles allow.
LOGIN_SCOPES = tuple(scope for scope in Scope if scope is not Scope.LEASE)
# What an organisation's program may be given: it neither says who is in, nor makes tokens.
SERVICE_SCOPES = frozenset({Scope.READ, Scope.PUSH, Scope.YANK, Scope.MANAGE, Scope.SUBMIT})
SCOPES_OF_KIND: Mapping[TokenKind, tuple[Scope, ...]] = {
    TokenKind.PERSONAL: LOGIN_SCOPES,
    TokenKind.SESSION: LOGIN_SCOPES,
    TokenKind.CI: tuple(sorted(SERVICE_SCOPES)),
    TokenKind.WORKER: (Scope.LEASE,),
    TokenKind.BOOTSTRAP: (),
}


@dataclass(frozen=True)
class Grant:
    """A role in a namespace: everybody's own, and those of the organisations they are in."""

    account_id: int
    namespace: str
    role: Role


@dataclass(frozen=True)
class Principal:
    """Who a valid token speaks for. `kind` is "user", "organisation", "worker" or "code".

    `restricted_to` are the namespaces (`acme`) and adapters (`acme/topics`) that the token is for; None is all.
    `provenance` is the job of a CI system that it was minted for.
    """

    account_id: int
    token_id: int
    name: str
    kind: str
    scopes: frozenset[str]
    grants: tuple[Grant, ...] = ()
    is_admin: bool = False
    restricted_to: frozenset[str] | None = None
    provenance: Mapping[str, str] | None = None

    def role_in(self, namespace: str) -> Role | None:
        return next((grant.role for grant in self.grants if grant.namespace == namespace), None)

    def account_in(self, namespace: str) -> int:
        """The account whose namespace it is. Raises KeyError where the principal has no role."""
        return {grant.namespace: grant.account_id for grant in self.grants}[namespace]

    def reaches(self, resource: Resource) -> bool:
        """True when the token's restriction, if it has one, leaves the resource to it."""
        return self.restricted_to is None or bool(self.restricted_to & {resource.namespace, resource.id})


@dataclass(frozen=True)
class Resource:
    """A namespace, or an adapter in it. `is_gated` says that its files are not given to who asks."""

    namespace: str
    adapter: str | None = None
    is_private: bool = False
    is_gated: bool = False

    @property
    def id(self) -> str:
        return self.namespace if self.adapter is None else f"{self.namespace}/{self.adapter}"


def authorize(principal: Principal | None, action: Action, resource: Resource | None = None) -> None:
    """Returns when `principal` may do `action`, to `resource` as far as that is known.

    Raises NotFound for what they may not even see, Unauthorized for a missing token, Forbidden otherwise.
    """
    rule = RULES[action]
    if resource is not None and resource.is_private and not _may_see(principal, resource):
        raise unknown_adapter(resource.namespace, resource.adapter or "")
    if action is Action.READ_FILES and resource is not None and resource.is_gated:
        raise _gated(principal, resource)
    if rule.is_open:
        return
    if principal is None:
        raise Unauthorized(
            "This needs a token and none was sent: log in with `vera-hub login`, or set VERA_HUB_TOKEN.",
            code="TOKEN_MISSING",
        )
    if rule.is_for_codes is not (principal.kind == "code"):
        raise Forbidden(
            "A sign-in code is good for signing in, once, and for nothing else: `vera-hub login` uses it.",
            code="CODE_MISUSED",
        )
    _require_scope(principal, rule)
    if resource is not None and rule.role is not None and not (rule.is_also_for_admins and principal.is_admin):
        _require_role(principal, rule.role, action, resource)


def is_permitted(principal: Principal | None, action: Action, resource: Resource | None = None) -> bool:
    """Whether `authorize` would return: for what is shown, and never in its place."""
    try:
        authorize(principal, action, resource)
    except (NotFound, Unauthorized, Forbidden):
        return False
    return True


def is_about_a_namespace(action: Action) -> bool:
    """True when the namespace in an address is enough to ask for a role in it."""
    return RULES[action].is_about_a_namespace


def viewer_of(principal: Principal | None) -> Viewer:
    """What a list may show to `principal`: everything public, and what is private in their reach."""
    if principal is None:
        return ANYBODY
    if Scope.LEASE in principal.scopes:
        return Viewer(worker_token_id=principal.token_id)
    if Scope.READ not in principal.scopes:
        return ANYBODY
    if principal.restricted_to is None:
        mine = frozenset(grant.account_id for grant in principal.grants)
        return Viewer(mine, account_id=principal.account_id)
    ids = {grant.namespace: grant.account_id for grant in principal.grants}
    whole = frozenset(ids[each] for each in principal.restricted_to if each in ids)
    single = (each.partition("/") for each in principal.restricted_to if "/" in each)
    return Viewer(whole, frozenset((ids[namespace], name) for namespace, _, name in single if namespace in ids))


def unknown_adapter(namespace: str, name: str) -> NotFound:
    """What is said of an adapter that is not there, and of one that is hidden: the same."""
    shown = f"{namespace[:64]}/{name[:64]}"
    return NotFound(
        f"There is no adapter {shown} here: look for it with `vera-hub list`.", code="ADAPTER_UNKNOWN", adapter=shown
    )


def _gated(principal: Principal | None, resource: Resource) -> Forbidden:
    who = "sign in and ask" if principal is None else f"{principal.name} was not let in yet: ask"
    return Forbidden(
        f"The files of {resource.id} are given to whom its owners let in; {who} for access on its page, or with "
        f"`vera-hub access ask {resource.id}`.",
        code="ADAPTER_GATED",
        adapter=resource.id,
        page=f"/{resource.id}",
    )


def _may_see(principal: Principal | None, resource: Resource) -> bool:
    if principal is None:
        return False
    if Scope.LEASE in principal.scopes:
        return True  # the query has found the lease: nothing else leads a worker to a private adapter
    is_in = principal.role_in(resource.namespace) is not None
    return is_in and Scope.READ in principal.scopes and principal.reaches(resource)


def _require_scope(principal: Principal, rule: Rule) -> None:
    if rule.is_for_admins and not principal.is_admin:
        raise Forbidden(
            f"{principal.name} is no admin of this hub: ask one. Who runs the hub makes the first, beside it: "
            "`vera-hub login --bootstrap`.",
            code="ADMIN_ONLY",
        )
    if rule.scope is not None and rule.scope not in principal.scopes:
        raise Forbidden(
            f"This token was not given the scope {rule.scope}: use one that was.",
            code="SCOPE_INSUFFICIENT",
            scope=rule.scope,
        )


def _require_role(principal: Principal, needed: Role, action: Action, resource: Resource) -> None:
    if not principal.reaches(resource):
        raise Forbidden(
            f"This token is restricted to {', '.join(sorted(principal.restricted_to or ()))} and {resource.id} is "
            "none of that: use another token.",
            code="TOKEN_RESTRICTED",
            resource=resource.id,
        )
    role = principal.role_in(resource.namespace)
    if role is not None and role.covers(needed):
        return
    verb = "push to" if action is Action.PUSH else f"{action.replace('-', ' ')} in"
    what = f"is {role} there" if role else "is nobody there"
    raise Forbidden(
        f"{principal.name} may not {verb} {resource.namespace}: that takes the role {needed}, and {principal.name} "
        f"{what}. Ask an owner, or use your own namespace, {principal.name}.",
        namespace=resource.namespace,
        user=principal.name,
        needed=needed,
        role=role,
    )
