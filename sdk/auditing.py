"""The record of a hub, checked from outside: does each event follow the one before it?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime

from sdk.errors import BadAnswer
from sdk.models.record import AuditEvent

GENESIS = "0" * 64


def check_chain(events: Sequence[AuditEvent], *, known: str | None = None) -> None:
    """Returns when `events`, the newest first, are a whole record from its first event on.

    `known` is the hash of an event that was noted earlier, and must still be there. Raises BadAnswer: a hub that
    rewrites all of a record, from some event to the last, is found out by `known` alone.
    """
    previous, hashes = GENESIS, {GENESIS}
    for number, event in enumerate(reversed(events), start=1):
        if (event.number, event.previous, event.hash) != (number, previous, hash_of(event)):
            raise BadAnswer(
                f"The record was changed: event {number} is not what its hash and the one before it say. "
                "Ask the hub's operator, who finds out more with `vera-hub admin fsck`."
            )
        previous = event.hash
        hashes.add(previous)
    if known is not None and known not in hashes:
        raise BadAnswer(
            f"The record has no event with the hash {known}: it was rewritten since that was noted, or is another one."
        )


def hash_of(event: AuditEvent) -> str:
    """The SHA-256 that docs/api.md describes."""
    content = {
        "chain": event.chain,
        "number": event.number,
        "at": datetime.fromisoformat(event.at).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "actor": event.actor,
        "token_id": event.token_id,
        "action": event.action,
        "subject": event.subject,
        "facts": event.facts,
        "previous": event.previous,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
