"""Feeds: what lately became of the adapters of a namespace, for everybody who may see them."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub.auth.policy import Principal, viewer_of
from hub.db.models.record import AuditEvent
from hub.db.queries import audit
from hub.domain.audit import Change
from hub.domain.catalog import find_adapter
from hub.domain.views.record import FeedEntry

LENGTH = 50
# What of the record is told to everybody: that of versions and aliases, which their pages show as well.
_SHOWN = tuple(change.value for change in Change if change.partition(".")[0] in ("version", "alias"))


def of_adapter(session: Session, reader: Principal | None, namespace: str, name: str) -> tuple[FeedEntry, ...]:
    """The newest first. Raises NotFound."""
    find_adapter(session, reader, namespace, name)
    return _entries(session, reader, namespace, name)


def of_namespace(session: Session, reader: Principal | None, namespace: str) -> tuple[FeedEntry, ...]:
    """The newest first, of the adapters that `reader` may see; nothing for a name that nobody has."""
    return _entries(session, reader, namespace, None)


def _entries(session: Session, reader: Principal | None, namespace: str, name: str | None) -> tuple[FeedEntry, ...]:
    found = audit.of_visible_adapters(session, viewer_of(reader), namespace, name, actions=_SHOWN, limit=LENGTH)
    return tuple(_entry(event) for event in found)


def _what(event: AuditEvent) -> str:
    """`demo/topics@v2 yanked`, `demo/topics@prod set to v2`."""
    kind, _, what = event.action.partition(".")
    alias, now = event.facts.get("alias"), event.facts.get("after")
    subject = f"{event.subject}@{alias}" if kind == "alias" else event.subject
    return f"{subject} {what.replace('-', ' ')}{f' to v{now}' if now is not None else ''}"


def _entry(event: AuditEvent) -> FeedEntry:
    more = event.facts.get("reason") or event.facts.get("message")
    return FeedEntry(
        number=event.number,
        ref=event.subject,
        adapter=f"{event.chain}/{event.adapter}",
        title=f"{_what(event)} by {event.actor}",
        author=event.actor,
        at=event.at,
        text=more if isinstance(more, str) else None,
    )
