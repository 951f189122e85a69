"""What a hub answers about how versions differ, and what they were made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sdk.models.answer import Answer
from sdk.models.bases import BaseName
from sdk.models.evaluations import Comparison


@dataclass(frozen=True)
class VectorChange(Answer):
    """How one vector changed: `norms` and `cosine` as in `vera.adapter_difference`."""

    name: str
    norms: tuple[float | None, float | None]
    cosine: float | None
    is_equal: bool


@dataclass(frozen=True)
class FieldChange(Answer):
    """A field of the manifest that differs."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class ScoreChange(Answer):
    """How two versions score on one suite; without a comparison where the suite has changed in between."""

    suite: str
    metric: str
    before: float
    after: float
    comparison: Comparison | None


@dataclass(frozen=True)
class VersionDiff(Answer):
    """What changed from one version to another, as the hub has computed it."""

    before: str
    after: str
    same_projection: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    vectors: tuple[VectorChange, ...]
    fields: tuple[FieldChange, ...]
    card: str
    evaluations: tuple[ScoreChange, ...]


@dataclass(frozen=True)
class Lineage(Answer):
    """Where a version comes from, the nearest first, and what was made from it, the latest first."""

    ref: str
    base: BaseName
    ancestors: tuple[str, ...]
    children: tuple[str, ...]
