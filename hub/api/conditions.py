"""Writes that are wanted only while a thing is what it was: `If-Match` with the ETag that a GET of it gave."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header
from sqlalchemy.orm import Session

from hub.api.responses import etag_of, names
from hub.auth.policy import Action, Principal
from hub.domain import catalog
from hub.errors import PreconditionFailed
from vera.ref import AdapterRef

IfMatch = Annotated[str | None, Header(description="The ETag that a GET of it must still give, or `*` for any.")]


def require_unchanged(
    session: Session, principal: Principal, ref: AdapterRef, if_match: str | None, *, to: Action
) -> None:
    """Raises PreconditionFailed unless the adapter, or the version where `ref` names one, is what it was when its
    ETag was one of these; from then on nobody else changes it. Raises NotFound and Forbidden."""
    if if_match is None or if_match.strip() == "*":
        return
    catalog.hold_adapter(session, principal, ref.namespace, ref.name, to=to)
    if ref.selector is None:
        now = etag_of(catalog.get_adapter(session, principal, ref.namespace, ref.name))
    else:
        now = etag_of(catalog.resolve_version(session, principal, ref))
    if not names(if_match, now):
        raise PreconditionFailed(
            f"{ref} has changed since you read it, and was left as it is: read it again, and see whether you still "
            "want to change it.",
            code="CHANGED_SINCE",
            expected=if_match[:200],
            got=now,
        )
