"""What is remembered of somebody who fetches a file, whichever door they came through."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from fastapi import Request

from hub.access.limits import visitor_at
from hub.access.services import Services
from hub.auth.policy import Principal
from hub.domain import catalog
from hub.errors import HubError


def note_fetch(
    request: Request,
    parts: Services,
    reader: Principal | None,
    *,
    adapter_id: int,
    sha256: str,
    first_fetched: Sequence[int],
) -> None:
    """Counts the download; `first_fetched` are the versions that nobody had fetched before."""
    if first_fetched:
        with suppress(HubError), parts.database.writing() as session:  # a full disk keeps nobody from reading
            catalog.note_fetch(session, first_fetched)
    parts.downloads.note(reader, visitor_at(request, parts.settings.trusted_proxies), adapter_id, sha256)
