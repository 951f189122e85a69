"""Adapters, found or asked for by name, as the hub shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from hub.domain.views.bases import BaseName, TaskView
from hub.domain.views.versions import AliasView, VersionSummary

Visibility = Literal["public", "private"]
Gate = Literal["auto", "manual"]
AccessState = Literal["pending", "accepted", "rejected"]


@dataclass(frozen=True, kw_only=True)
class AdapterView:
    """An adapter; base and task are those of its latest version. `latest` is null while none may be that. `gated` says
    whether its files are given to whom has asked ("auto") or was let in ("manual"); null is everybody. `mirrored_from` is
    the hub that it is a copy of."""

    id: str
    namespace: str
    name: str
    base: BaseName
    task: TaskView | None
    latest: int | None
    visibility: Visibility
    gated: Gate | None
    created_at: datetime
    updated_at: datetime
    mirrored_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class FoundView(AdapterView):
    """An adapter that a search found, with facts of its latest version. `score` is the one on the suite that was
    asked for, and `bytes_per_point` what vectors and head take for each percent of it."""

    rank: int
    vector_bytes: int
    head_bytes: int
    size_bytes: int
    license: str | None
    tags: tuple[str, ...]
    downloads: int
    score: float | None
    bytes_per_point: float | None


@dataclass(frozen=True)
class FacetValue:
    """A value, and how many of the adapters that were counted have it."""

    value: str
    count: int


@dataclass(frozen=True, kw_only=True)
class FacetsView:
    """What the adapters that a search finds have in common, the most frequent first. Unless `is_complete`, there
    are more than the `counted`, which are those last updated."""

    counted: int
    is_complete: bool
    bases: tuple[FacetValue, ...]
    families: tuple[FacetValue, ...]
    tasks: tuple[FacetValue, ...]
    licenses: tuple[FacetValue, ...]
    ranks: tuple[FacetValue, ...]
    tags: tuple[FacetValue, ...]
    owners: tuple[FacetValue, ...]


@dataclass(frozen=True, kw_only=True)
class AdapterDetail(AdapterView):
    """An adapter, all of its versions, newest first, and its aliases by name."""

    versions: tuple[VersionSummary, ...]
    aliases: tuple[AliasView, ...]


@dataclass(frozen=True, kw_only=True)
class AccessView:
    """What whoever asks gets of an adapter: whether its files are given to them, and what became of their request."""

    gated: Gate | None
    files: bool
    state: AccessState | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class AccessRequestView:
    """A request for the files of a gated adapter. `message` is what the user has said, `reason` what they were told."""

    user: str
    state: AccessState
    message: str | None
    reason: str | None
    created_at: datetime
    decided_at: datetime | None
    decided_by: str | None
