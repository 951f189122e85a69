"""The record of who has changed what, kept in the transaction of the change itself.

Each namespace has a chain of its own, and so has the hub. The hash of an event covers the hash of the one before
it: whoever has noted a hash once can tell whether anything up to there was changed, taken out or put in since.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db import session as db
from hub.db.models.record import AuditEvent
from hub.db.queries import audit
from hub.domain import deliveries, paging
from hub.domain.views.page import Page
from hub.domain.views.record import AuditEventView

# The chain of what concerns no single namespace.
HUB = ""


class Change(StrEnum):
    """What is recorded. The part before the dot is what the change is of."""

    VERSION_PUSHED = "version.pushed"
    VERSION_YANKED = "version.yanked"
    VERSION_UNYANKED = "version.unyanked"
    VERSION_DEPRECATED = "version.deprecated"
    VERSION_UNDEPRECATED = "version.undeprecated"
    VERSION_QUARANTINED = "version.quarantined"
    VERSION_RELEASED = "version.released"
    VERSION_DELETED = "version.deleted"
    ALIAS_SET = "alias.set"
    ALIAS_REMOVED = "alias.removed"
    EVALUATION_CANCELLED = "evaluation.cancelled"
    EVALUATION_DOUBTED = "evaluation.doubted"
    ADAPTER_OPENED = "adapter.opened"
    ADAPTER_TAKEN_BACK = "adapter.taken-back"
    ADAPTER_MOVED = "adapter.moved"
    ADAPTER_RECEIVED = "adapter.received"
    # What lies beside versions, or waits for the first one: `naming`, `committing`.
    DRAFT_COMMITTED = "draft.committed"
    DRAFTS_SQUASHED = "draft.squashed"
    DRAFT_NAMED = "draft.named"
    DRAFT_UNNAMED = "draft.unnamed"
    VISIBILITY_CHANGED = "adapter.visibility-changed"
    GATE_CHANGED = "adapter.gate-changed"
    ACCESS_REQUESTED = "access.requested"
    ACCESS_DECIDED = "access.decided"
    ORGANISATION_CREATED = "organisation.created"
    ORGANISATION_DELETED = "organisation.deleted"
    INVITATION_MADE = "invitation.made"
    INVITATION_WITHDRAWN = "invitation.withdrawn"
    INVITATION_DECLINED = "invitation.declined"
    MEMBER_JOINED = "member.joined"
    MEMBER_ROLE_CHANGED = "member.role-changed"
    MEMBER_REMOVED = "member.removed"
    TOKEN_CREATED = "token.created"  # noqa: S105  # a change
    TOKEN_REVOKED = "token.revoked"  # noqa: S105
    PUBLISHER_ADDED = "publisher.added"
    PUBLISHER_REMOVED = "publisher.removed"
    SIGNED_IN = "account.signed-in"
    PASSWORD_CHANGED = "account.password-changed"  # noqa: S105
    WEBHOOK_ADDED = "webhook.added"
    WEBHOOK_REMOVED = "webhook.removed"
    WEBHOOK_SECRET_CHANGED = "webhook.secret-changed"  # noqa: S105
    # Of the hub.
    USER_CREATED = "user.created"
    USER_CODE_MADE = "user.code-made"
    USER_ADMIN_CHANGED = "user.admin-changed"
    USER_DELETED = "user.deleted"
    BASE_REGISTERED = "base.registered"
    BASE_RENAMED = "base.renamed"
    WORKER_ENROLLED = "worker.enrolled"
    WORKER_TOKEN_CHANGED = "worker.token-changed"  # noqa: S105  # a change
    WORKER_REVOKED = "worker.revoked"


_OF_THE_HUB = ("user", "base", "worker")


def is_of_the_hub(change: Change) -> bool:
    """True for what no namespace's record has, and so no webhook hears of."""
    return change.partition(".")[0] in _OF_THE_HUB


def record(
    session: Session,
    principal: Principal | None,
    change: Change,
    subject: str,
    facts: Mapping[str, Any] | None = None,
    *,
    actor: str | None = None,
) -> None:
    """Adds a change to the record, in the transaction that makes it, and enqueues what webhooks hear of it.

    `subject` is `acme`, `acme/topics` or `acme/topics@v3`, whose namespace keeps the event; of the hub's own changes
    it is any text. Without a `principal` the `actor` acts, or the subject (who signs in). `facts` are JSON without floats and hold no
    secrets. Come last: this holds the end of the namespace's chain until the transaction is over.
    """
    session.flush()  # what has changed comes first, and the end of the chain is held the shortest
    of_hub = is_of_the_hub(change)
    namespace, adapter = _place(subject)
    chain = HUB if of_hub else namespace
    head = audit.hold_chain(session, chain)
    event = AuditEvent(
        chain=chain,
        number=head.length + 1,
        at=db.now(session),
        actor=principal.name if principal else actor or namespace,
        token_id=principal.token_id if principal else None,
        action=change.value,
        subject=subject,
        adapter=None if of_hub else adapter,  # the name of a base has a / too
        facts=dict(facts or {}),
        previous=head.hash,
    )
    event.hash = hash_of(event)
    audit.add(session, event)
    deliveries.enqueue(session, event)


def hash_of(event: AuditEvent) -> str:
    """The SHA-256 of the event as JSON with sorted keys, ASCII alone and no spaces (docs/api.md)."""
    content = {
        "chain": event.chain,
        "number": event.number,
        "at": _microseconds(event.at),
        "actor": event.actor,
        "token_id": event.token_id,
        "action": event.action,
        "subject": event.subject,
        "facts": event.facts,
        "previous": event.previous,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_namespace(
    session: Session,
    principal: Principal,
    namespace: str,
    *,
    adapter: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[AuditEventView]:
    """The record of a namespace, or of one adapter in it, the newest first. For its owners and the hub's admins."""
    authorize(principal, Action.READ_AUDIT, Resource(namespace, adapter))
    return _read(session, namespace, adapter=adapter, cursor=cursor, limit=limit)


def read_hub(
    session: Session, principal: Principal, *, cursor: str | None = None, limit: int = 50
) -> Page[AuditEventView]:
    """What was changed that concerns no single namespace, the newest first. For admins."""
    authorize(principal, Action.READ_HUB_AUDIT)
    return _read(session, HUB, adapter=None, cursor=cursor, limit=limit)


def broken_chains(session: Session) -> Iterator[str]:
    """A sentence for each chain that is not what was recorded."""
    for chain in audit.chains(session):
        before, number = audit.GENESIS, 0
        for event in audit.events_of(session, chain.name):
            if event.number != number + 1 or event.previous != before or event.hash != hash_of(event):
                yield f"The record of {chain.name or 'the hub'} was changed at event {number + 1}."
                break
            before, number = event.hash, event.number
        else:
            if (number, before) != (chain.length, chain.hash):
                yield f"The record of {chain.name or 'the hub'} ends at event {number} and had {chain.length}."


def _place(subject: str) -> tuple[str, str | None]:
    """The namespace and the adapter that a subject names."""
    namespace, _, rest = subject.partition("/")
    return namespace, rest.partition("@")[0] or None


def _microseconds(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read(session: Session, chain: str, *, adapter: str | None, cursor: str | None, limit: int) -> Page[AuditEventView]:
    keys = paging.decode(session, cursor, "audit", int)
    before = int(keys[0]) if keys else None
    rows = audit.page(session, chain, adapter=adapter, before=before, limit=limit + 1)
    return paging.page(rows, limit, _view, lambda row: paging.encode(session, "audit", row.number))


def _view(event: AuditEvent) -> AuditEventView:
    return AuditEventView(
        chain=event.chain,
        number=event.number,
        at=event.at,
        actor=event.actor,
        token_id=event.token_id,
        action=event.action,
        subject=event.subject,
        facts=event.facts,
        previous=event.previous,
        hash=event.hash,
    )
