"""What a hub answers about suites and their leaderboards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdk.models.answer import Answer
from sdk.models.bases import BaseName
from sdk.models.evaluations import ScoreBeside


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
class BoardHistory(Answer):
    """The versions that were the best when they were scored, the first first."""

    suite: Suite
    records: tuple[Record, ...]
