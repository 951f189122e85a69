"""The first time that somebody fetches a version: from then on others may rely on it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from hub.access.services import Services
from hub.domain import catalog
from hub.errors import HubError


def note_first_fetch(parts: Services, version_ids: Sequence[int]) -> None:
    """Remembers that these versions were fetched, each once in its life. A full disk keeps nobody from reading."""
    if version_ids:
        with suppress(HubError), parts.database.writing() as session:
            catalog.note_fetch(session, version_ids)
