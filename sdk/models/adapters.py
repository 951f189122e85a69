"""What a hub answers about adapters."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.models.aliases import Alias
from sdk.models.answer import Answer
from sdk.models.bases import BaseName, Task
from sdk.models.versions import VersionSummary


@dataclass(frozen=True, kw_only=True)
class Adapter(Answer):
    id: str
    namespace: str
    name: str
    base: BaseName
    task: Task | None
    latest: int | None
    visibility: str = "public"
    gated: str | None = None
    created_at: str
    updated_at: str
    mirrored_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class Access(Answer):
    """What you get of an adapter. `gated` is "auto", "manual" or None, `state` what became of your request."""

    gated: str | None
    files: bool
    state: str | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class AccessRequest(Answer):
    """Somebody who has asked for the files of a gated adapter, or was let in without."""

    user: str
    state: str
    message: str | None
    reason: str | None
    created_at: str
    decided_at: str | None
    decided_by: str | None


@dataclass(frozen=True, kw_only=True)
class FoundAdapter(Adapter):
    """An adapter that a search found. `score` is the one on the suite that was asked for, and `bytes_per_point`
    what vectors and head take for each percent of it."""

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
class FacetValue(Answer):
    """A value, and how many of the adapters that were counted have it."""

    value: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Facets(Answer):
    """What the adapters that a search finds have in common. Unless `is_complete`, only the `counted` that were
    last updated are."""

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
class AdapterDetail(Adapter):
    """An adapter, its versions, newest first, and its aliases by name."""

    versions: tuple[VersionSummary, ...]
    aliases: tuple[Alias, ...] = ()
