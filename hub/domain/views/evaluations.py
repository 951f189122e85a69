"""Suites, evaluations, comparisons and leaderboards, as the hub shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from hub.domain.views.bases import BaseName

State = Literal["waiting", "running", "done", "failed"]


@dataclass(frozen=True)
class ScoreBeside:
    """The score of a metric that stands beside the one that ranks, with its 95% interval."""

    score: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class SignerView:
    """Whose signature a result has: the SHA-256 of the key, and the worker it was registered by. `revoked_at` says that the
    worker was shut out since."""

    key_id: str
    name: str
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class SignedItemsView:
    """The items whose digests are signed, and the salt of those; null where they have none."""

    salt: str | None
    outcomes: Mapping[str, Sequence[Any]]
    outputs: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class SignatureView:
    """What a worker has signed of an evaluation (DSSE), and the public key as this hub knows it. `items` are there when they
    are asked for and their suite shows them."""

    evaluation: str
    envelope: Mapping[str, Any]
    public_key: str
    signed_by: SignerView
    items: SignedItemsView | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerTokenView:
    """The token that a code has brought a worker, for the key it came with. It is in no later answer."""

    token: str
    key_id: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class EvaluationView:
    """One suite on one version. `position` counts from 1 while it waits; `reason` says why it waits or failed, or
    why of one that runs nobody knows any more when it is done; `estimate_seconds` in how long it may be, by how long this suite has
    lately taken; null when nobody can know.
    `beside` has the scores of the suite's other metrics, null for one that the worker could not compute, and `items_done`
    says how many of the items were answered with its worker's last heartbeat, while it runs. Of a group, `tasks` is the number
    of its tasks, whose scores are shown."""

    id: str
    ref: str
    version_digest: str
    suite: str
    spec_digest: str
    state: State
    score: float | None
    interval: tuple[float, float] | None
    metric: str
    items: int
    items_done: int | None
    attempts: int
    position: int | None
    reason: str | None
    worker: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    environment: Mapping[str, Any]
    beside: Mapping[str, ScoreBeside | None]
    seconds: float | None
    estimate_seconds: float | None
    worker_seen_at: datetime | None
    signed_by: SignerView | None
    tasks: int


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """One task of a group, by the metrics of the group. `scores` is empty where it has so few items that it would tell what
    single ones are worth."""

    task: str
    version: str | None
    num_fewshot: int | None
    items: int
    scores: Mapping[str, ScoreBeside]


@dataclass(frozen=True, kw_only=True)
class TasksView:
    """What the tasks of a group are worth; none of a suite that is no group."""

    evaluation: str
    ref: str
    suite: str
    metric: str
    tasks: tuple[TaskScore, ...]


@dataclass(frozen=True, kw_only=True)
class SuiteView:
    """The current definition of a suite. `digest` covers everything a score depends on."""

    name: str
    digest: str
    definition: Mapping[str, Any]
    title: str
    metric: str
    items: int
    labels: tuple[str, ...]
    baselines: Mapping[str, float]
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two evaluations of one suite, paired by item. `delta` is this one less the other."""

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
    items_are_public: bool


@dataclass(frozen=True, kw_only=True)
class ItemComparison:
    """One item, numbered from 1 in the order of the suite's data. The outcomes are what its metric needs of it."""

    item: int
    change: Literal["worse", "better", "same"]
    output: str
    against_output: str
    outcome: tuple[float, ...]
    against_outcome: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ItemsCompared:
    """The items of two evaluations, those first in which this one lost most against the other. The counts are of all items,
    `next` is the cursor of those after these."""

    suite: str
    metric: str
    ref: str
    against: str
    worse: int
    better: int
    same: int
    items: tuple[ItemComparison, ...]
    next: str | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """A version that was the best of its board from `since` on, until the next of the history."""

    ref: str
    digest: str
    base: BaseName
    score: float
    interval: tuple[float, float]
    evaluation_id: str
    created_by: str
    since: datetime


@dataclass(frozen=True)
class BoardHistory:
    """The versions that were the best when they were scored, the first first."""

    suite: SuiteView
    records: tuple[Record, ...]


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One version on a board. `rank` counts the versions that score higher; `tied_with_best` is the
    paired test against the first row (which is tied with itself), and `noise` how far another layout of the batches has moved
    the score, where that was measured."""

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
    finished_at: datetime
    seconds: float | None
    beside: Mapping[str, ScoreBeside | None]
    noise: float | None


@dataclass(frozen=True)
class Leaderboard:
    suite: SuiteView
    rows: tuple[LeaderboardRow, ...]


@dataclass(frozen=True)
class JobBase:
    name: str
    revision: str | None
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is to do, and the `fence` it must show with everything it says of it."""

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
