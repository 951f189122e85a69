"""Trusted publishing: a job of a CI system pushes without a secret, because a maintainer has named its workflow.

A publisher belongs to a namespace, or to one adapter in it, and not to whoever named it: it stays when they leave.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from sqlalchemy.orm import Session

from hub.auth.identities import Identity
from hub.auth.policy import Action, Principal, Resource, Scope, authorize
from hub.auth.tokens import TokenKind
from hub.db import session as db
from hub.db.models.accounts import Account, Publisher
from hub.db.queries import accounts as account_rows
from hub.db.queries import publishers
from hub.domain import accounts
from hub.domain.audit import Change, record
from hub.domain.views.accounts import JobTokenView, PublisherView
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from vera.errors import RefError
from vera.ref import check_adapter_id, check_namespace

LIFETIME = timedelta(minutes=15)
# Beyond the identity's own end, for clocks that disagree.
_REMEMBERED = timedelta(seconds=90)
SCOPES = (Scope.READ, Scope.PUSH, Scope.SUBMIT)


def list_publishers(session: Session, principal: Principal, namespace: str) -> tuple[PublisherView, ...]:
    """The publishers of a namespace, the earliest first."""
    account = _managed(session, principal, namespace)
    return tuple(_view(each, namespace, each.created_by.name) for each in publishers.of_account(session, account.id))


def add(
    session: Session,
    principal: Principal,
    namespace: str,
    *,
    adapter: str | None,
    issuer: str,
    repository: str,
    repository_id: str,
    owner_id: str,
    workflow: str,
    environment: str | None,
) -> PublisherView:
    """Lets the jobs of this workflow push to the namespace, or to one adapter in it."""
    account = _managed(session, principal, namespace)
    if adapter is not None:
        check_adapter_id(namespace, adapter)
    publisher = Publisher(
        account_id=account.id,
        adapter_name=adapter,
        issuer=issuer,
        repository=repository,
        repository_id=repository_id,
        owner_id=owner_id,
        workflow=workflow,
        environment=environment,
        created_by_id=principal.account_id,
        created_at=db.now(session),
    )
    session.add(publisher)
    session.flush()
    record(session, principal, Change.PUBLISHER_ADDED, _reach(publisher, namespace), _facts(publisher))
    return _view(publisher, namespace, principal.name)


def remove(session: Session, principal: Principal, namespace: str, publisher_id: str) -> None:
    """Raises NotFound."""
    account = _managed(session, principal, namespace)
    number = int(publisher_id) if publisher_id.isdecimal() and len(publisher_id) < 19 else 0
    publisher = publishers.by_id(session, number, account.id)
    if publisher is None:
        raise NotFound(
            f"{namespace} has no publisher {publisher_id[:20]}: `vera-hub publisher list` shows them.",
            code="PUBLISHER_UNKNOWN",
        )
    session.delete(publisher)
    record(session, principal, Change.PUBLISHER_REMOVED, _reach(publisher, namespace), _facts(publisher))


def mint_for(session: Session, identity: Identity, resource: str) -> JobTokenView:
    """`mint`, for one adapter, or to read in a namespace and nothing else. Raises Invalid for what is neither too."""
    namespace, slash, adapter = resource.partition("/")
    try:
        check_adapter_id(namespace, adapter) if slash else check_namespace(namespace)
    except RefError as error:
        raise Invalid(
            f"{resource[:100]!r} is neither a namespace nor an adapter: write acme, or acme/topics.",
            code="NAME_INVALID",
        ) from error
    return mint(session, identity, namespace, adapter=adapter or None, scopes=SCOPES if slash else (Scope.READ,))


def mint(
    session: Session,
    identity: Identity,
    namespace: str | None = None,
    *,
    adapter: str | None = None,
    scopes: tuple[Scope, ...] = SCOPES,
) -> JobTokenView:
    """A token for a quarter of an hour, for what the job's publishers are for, or the one `adapter` of that. An identity
    is good for one.

    Raises Conflict for one that was shown before, Forbidden when nobody has named the workflow, Invalid when
    several namespaces have and `namespace` does not say which is meant.
    """
    at = db.now(session)
    shown = hashlib.sha256(f"{identity.issuer}\n{identity.jti}".encode()).digest()
    if not publishers.note_shown(session, shown, at=at, until=identity.expires_at + _REMEMBERED):
        raise Conflict(
            "This identity of a job was used already: ask the CI system for another.", code="OIDC_TOKEN_REUSED"
        )
    found = [
        each
        for each in publishers.of_repository(session, identity.issuer, identity.repository_id, identity.owner_id)
        if _fits(each, identity) and namespace in (None, each.account.name) and _reaches(each, adapter)
    ]
    if not found:
        raise Forbidden(
            f"Nothing here trusts {identity.workflow} of {identity.repository} (repository {identity.repository_id}, owner "
            f"{identity.owner_id}, environment {identity.environment}): a maintainer adds it with `vera-hub publisher add`.",
            code="OIDC_NO_PUBLISHER",
            **identity.provenance,
        )
    names = sorted({each.account.name for each in found})
    if len(names) > 1:
        raise Invalid(
            f"Several namespaces trust this workflow ({', '.join(names)}): say which one is meant.",
            code="OIDC_AMBIGUOUS",
            namespaces=names,
        )
    reach = {f"{names[0]}/{adapter}"} if adapter else {_reach(each, names[0]) for each in found}
    return _mint(session, found[0].account, identity, sorted(reach), scopes)


def _mint(
    session: Session, account: Account, identity: Identity, reach: list[str], scopes: tuple[Scope, ...]
) -> JobTokenView:
    token, secret = accounts.add_token(
        session,
        account.id,
        TokenKind.CI,
        scopes=scopes,
        lifetime=LIFETIME,
        name=f"{identity.repository} {identity.workflow}"[:100],
        restricted_to=reach,
    )
    token.provenance = identity.provenance
    facts = {"id": token.id, "kind": "ci", "scopes": token.scopes, "restricted_to": reach, **identity.provenance}
    record(session, None, Change.TOKEN_CREATED, account.name, facts)
    return JobTokenView(
        token=secret, expires_at=token.expires_at, account=account.name, scopes=scopes, restricted_to=tuple(reach)
    )


def _fits(publisher: Publisher, identity: Identity) -> bool:
    return publisher.workflow == identity.workflow and publisher.environment in (None, identity.environment)


def _reaches(publisher: Publisher, adapter: str | None) -> bool:
    return adapter is None or publisher.adapter_name in (None, adapter)


def _facts(publisher: Publisher) -> dict[str, object]:
    return {
        "id": publisher.id,
        "issuer": publisher.issuer,
        "repository": publisher.repository,
        "repository_id": publisher.repository_id,
        "workflow": publisher.workflow,
        "environment": publisher.environment,
    }


def _reach(publisher: Publisher, namespace: str) -> str:
    return namespace if publisher.adapter_name is None else f"{namespace}/{publisher.adapter_name}"


def _managed(session: Session, principal: Principal, namespace: str) -> Account:
    authorize(principal, Action.MANAGE_PUBLISHERS, Resource(namespace))
    account = account_rows.find(session, namespace)
    assert account is not None, "there is a role in it"
    return account


def _view(publisher: Publisher, namespace: str, created_by: str) -> PublisherView:
    return PublisherView(
        id=str(publisher.id),
        target=_reach(publisher, namespace),
        issuer=publisher.issuer,
        repository=publisher.repository,
        repository_id=publisher.repository_id,
        owner_id=publisher.owner_id,
        workflow=publisher.workflow,
        environment=publisher.environment,
        created_by=created_by,
        created_at=publisher.created_at,
    )
