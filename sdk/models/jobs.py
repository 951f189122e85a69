"""What a hub answers a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdk.models.answer import Answer
from sdk.models.bases import BaseName


@dataclass(frozen=True)
class WorkerId(Answer):
    worker_id: str


@dataclass(frozen=True)
class WorkerToken(Answer):
    """What a code has brought."""

    token: str = field(repr=False)
    key_id: str
    expires_at: str


@dataclass(frozen=True)
class JobBase(BaseName):
    revision: str | None


@dataclass(frozen=True)
class Job(Answer):
    """A leased evaluation: this worker's until `lease_seconds` pass without a heartbeat."""

    id: str
    fence: int
    ref: str
    version_digest: str
    weights_digest: str
    commit: str
    suite: str
    spec: Mapping[str, Any]
    spec_digest: str
    base: JobBase
    lease_seconds: int
