"""A worker as it comes to work: its key, its memory, and the suites that it brings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db import session as db
from hub.db.models.evaluating import Suite
from hub.db.queries import queueing, suites, workers
from hub.db.queries.inserting import insert_new
from hub.domain import enrolling
from hub.domain.enrolling import Shown
from hub.domain.evaluations import canonical, canonical_digest, enqueue_for_suite, labels_key
from hub.errors import Conflict, Invalid
from hub.scoring import metrics

MAX_DEFINITION = 64 * 1024
_SUITE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?/[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")


@dataclass(frozen=True)
class SuiteDefinition:
    """A suite as a worker brings it. Valid by construction: Invalid otherwise."""

    name: str
    definition: Mapping[str, Any]
    title: str
    metric: str
    items: int
    labels: tuple[str, ...]
    baselines: Mapping[str, float]

    def __post_init__(self) -> None:
        _require(_SUITE_NAME.fullmatch(self.name), f"{self.name[:80]!r} is not family/task")
        _require(0 < len(self.title) <= 200, "its title must have 1 to 200 characters")
        _require(self.metric in metrics.METRICS, f"its metric is none of {', '.join(metrics.METRICS)}")
        _require(0 < self.items <= 1_000_000, "it must have 1 to 1,000,000 items")
        _require(len(set(self.labels)) == len(self.labels), "its labels must be different")
        _require(len(canonical(self.definition)) <= MAX_DEFINITION, f"its definition may have {MAX_DEFINITION:,} bytes")
        _require(len(self.baselines) <= 20, "it may have 20 baselines")

    @property
    def digest(self) -> str:
        """Over everything that a score depends on; the title and the baselines may be reworded."""
        return canonical_digest(
            {
                "name": self.name,
                "definition": self.definition,
                "metric": self.metric,
                "items": self.items,
                "labels": list(self.labels),
            }
        )


def register_worker(
    session: Session,
    principal: Principal,
    name: str,
    known: Sequence[SuiteDefinition],
    *,
    shown: Shown,
    memory_bytes: int | None = None,
    lacks: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """The id of the worker that this token calls `name`, which signs with this key and has this much memory. Definitions that are new here become
    current. `lacks` says of suites by their names which metrics it cannot compute, and why; one of them that is not among
    `known` it cannot run. Raises Invalid for a key that is not proven, and Forbidden for one that was revoked or is another worker's."""
    at, key = db.now(session), enrolling.key_of(session, principal, name, shown)
    worker = workers.ensure(session, principal.token_id, name, at=at)
    worker.key_id, worker.memory_bytes = key.id, memory_bytes
    worker.lacks = {suite: dict(reasons) for suite, reasons in lacks.items()} if lacks else None
    worker.suite_ids = [_define_suite(session, suite, at).id for suite in known]
    worker.last_seen_at = at
    return str(worker.id)


def _define_suite(session: Session, suite: SuiteDefinition, at: datetime) -> Suite:
    known = suites.defined_as(session, suite.name, suite.digest)
    if known is not None:
        return known
    queueing.fail_waiting(
        session, suite.name, at=at, reason="The suite has a newer definition: this one is no longer run."
    )
    suites.retire(session, suite.name)
    insert_new(
        session,
        Suite,
        name=suite.name,
        digest=suite.digest,
        definition=dict(suite.definition),
        title=suite.title,
        metric=suite.metric,
        items=suite.items,
        labels=list(suite.labels),
        labels_sha256=labels_key(suite.labels),
        baselines=dict(suite.baselines),
        is_current=True,
        created_at=at,
    )
    defined = suites.defined_as(session, suite.name, suite.digest)
    if defined is None:  # another worker brought another definition at the same moment
        raise Conflict(f"{suite.name} was given another definition just now: register again.", code="SUITE_CHANGED")
    enqueue_for_suite(session, defined, at=at)
    return defined


def _require(holds: object, what: str) -> None:
    if not holds:
        raise Invalid(f"The suite cannot be registered: {what}.", code="SUITE_INVALID")
