"""What a hub answers about suites, evaluations, leaderboards and a worker's jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdk.models.answer import Answer
from sdk.models.bases import BaseName


@dataclass(frozen=True)
class ScoreBeside(Answer):
    """The score of a metric that stands beside the one that ranks, with its 95% interval."""

    score: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Signer(Answer):
    """Whose signature a result has. `revoked_at` says that the worker was shut out since."""

    key_id: str
    name: str
    revoked_at: str | None


@dataclass(frozen=True)
class Signature(Answer):
    """What a worker has signed of an evaluation, a DSSE envelope, and the public key as the hub knows it."""

    evaluation: str
    envelope: Mapping[str, Any]
    public_key: str
    signed_by: Signer


@dataclass(frozen=True)
class Evaluation(Answer):
    """One version on one suite. `state` is waiting, running, done or failed; `estimate_seconds` says in how long it may
    be done, where that can be known. `beside` has the scores of the suite's other metrics, None for one that the worker
    could not compute, and `items_done` says of one that runs how many items were answered with the last heartbeat."""

    id: str
    ref: str
    version_digest: str
    suite: str
    spec_digest: str
    state: str
    score: float | None
    interval: tuple[float, float] | None
    metric: str
    items: int
    attempts: int
    position: int | None
    reason: str | None
    worker: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    environment: Mapping[str, Any] | None
    beside: Mapping[str, ScoreBeside | None] = field(default_factory=dict)
    seconds: float | None = None
    estimate_seconds: float | None = None
    worker_seen_at: str | None = None
    signed_by: Signer | None = None
    items_done: int | None = None

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")


@dataclass(frozen=True)
class Suite(Answer):
    name: str
    digest: str
    definition: Mapping[str, Any]
    title: str
    metric: str
    items: int
    labels: tuple[str, ...]
    baselines: Mapping[str, float]
    created_at: str


@dataclass(frozen=True)
class Comparison(Answer):
    """One evaluation against another, paired by item. `delta` and `interval` are this less the other."""

    metric: str
    items: int
    score: float
    against_score: float
    delta: float
    interval: tuple[float, float]
    p_value: float
    only_better: int
    only_worse: int
    method: str
    items_are_public: bool = False


@dataclass(frozen=True)
class ItemComparison(Answer):
    """One item, numbered from 1 in the order of the suite's data. `change` is worse, better or same."""

    item: int
    change: str
    output: str
    against_output: str
    outcome: tuple[float, ...]
    against_outcome: tuple[float, ...]


@dataclass(frozen=True)
class ItemsCompared(Answer):
    """The items of one evaluation against another, those first that lost most. The counts are of all items."""

    suite: str
    metric: str
    ref: str
    against: str
    worse: int
    better: int
    same: int
    items: tuple[ItemComparison, ...]
    next: str | None = None


@dataclass(frozen=True)
class Record(Answer):
    """A version that was the best of its board from `since` on, until the next."""

    ref: str
    digest: str
    base: BaseName
    score: float
    interval: tuple[float, float]
    evaluation_id: str
    created_by: str
    since: str


@dataclass(frozen=True)
class LeaderboardRow(Answer):
    """`rank` is the place on the board; `adapter_rank` the adapter's r."""

    rank: int
    tied_with_best: bool
    ref: str
    digest: str
    base: BaseName
    score: float
    interval: tuple[float, float]
    adapter_rank: int
    parameters: int
    vector_bytes: int
    head_bytes: int
    lora_bytes: int
    created_by: str
    evaluation_id: str
    finished_at: str
    seconds: float | None = None
    beside: Mapping[str, ScoreBeside | None] = field(default_factory=dict)
    noise: float | None = None


@dataclass(frozen=True)
class Leaderboard(Answer):
    suite: Suite
    rows: tuple[LeaderboardRow, ...]


@dataclass(frozen=True)
class BoardHistory(Answer):
    """The versions that were the best when they were scored, the first first."""

    suite: Suite
    records: tuple[Record, ...]


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
