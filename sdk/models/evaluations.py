"""What a hub answers about evaluations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdk.models.answer import Answer


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
class SignedItems(Answer):
    """What each item was worth (by the metrics) and answered, and the salt of their digests, None where they have none."""

    salt: str | None
    outcomes: Mapping[str, tuple[Any, ...]]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Signature(Answer):
    """What a worker has signed of an evaluation, a DSSE envelope, and the public key as the hub knows it. `items` are None
    where they were not asked for, or are shown to nobody."""

    evaluation: str
    envelope: Mapping[str, Any]
    public_key: str
    signed_by: Signer
    items: SignedItems | None = None


@dataclass(frozen=True)
class Evaluation(Answer):
    """One version on one suite. `state` is waiting, running, done or failed; `estimate_seconds` says in how long it may
    be done, where that can be known. `beside` has the scores of the suite's other metrics, None for one that the worker
    could not compute, and `items_done` says of one that runs how many items were answered with the last heartbeat. `tasks` is
    how many tasks a group has, whose scores `Hub.get_tasks` gives."""

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
    tasks: int = 0

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")


@dataclass(frozen=True)
class TaskScore(Answer):
    """One task of a group, by the metrics of the group, the one that ranks first. `scores` is empty where it has so few items
    that it would tell what single ones are worth."""

    task: str
    version: str | None
    num_fewshot: int | None
    items: int
    scores: Mapping[str, ScoreBeside]


@dataclass(frozen=True)
class Tasks(Answer):
    """What the tasks of a group are worth, in the group's order; none of a suite that is no group."""

    evaluation: str
    ref: str
    suite: str
    metric: str
    tasks: tuple[TaskScore, ...]


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
