"""Versions and what is said about them, as the hub shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hub.domain.views.bases import BaseName
from hub.domain.views.evaluations import Comparison, EvaluationView
from vera.adapter_difference import FieldChange, VectorChange


@dataclass(frozen=True, kw_only=True)
class DeprecationView:
    """Why a version is not to be used any more, and what instead."""

    message: str
    replacement: str | None


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """Where a version was made, as whoever pushed it says."""

    commit: str | None = None
    run: str | None = None


@dataclass(frozen=True, kw_only=True)
class VersionSummary:
    """One version. `lora_bytes` is a float32 LoRA of rank 8 on the same modules.

    `yanked`, `quarantined` and `deleted` are the reasons, null where it is not.
    """

    version: int
    ref: str
    digest: str
    weights_digest: str
    commit: str
    rank: int
    parameters: int
    vector_bytes: int
    head_bytes: int
    size_bytes: int
    lora_bytes: int
    message: str | None
    created_at: datetime
    created_by: str
    prerelease: bool
    yanked: str | None
    deprecated: DeprecationView | None
    quarantined: str | None
    deleted: str | None


@dataclass(frozen=True, kw_only=True)
class BundledView:
    """What is said of a version whose files come with it: which one it is, and what became of it."""

    version: int
    commit: str
    digest: str
    yanked: str | None
    deprecated: DeprecationView | None


@dataclass(frozen=True)
class CommitView:
    """A commit as a git-like hub has it: a version's, or a draft's."""

    commit: str
    message: str
    created_at: datetime
    created_by: str


@dataclass(frozen=True, kw_only=True)
class AliasView:
    """What an alias means. `revision` grows with every move; `protected` says that moving it takes a maintainer."""

    name: str
    version: int
    ref: str
    digest: str
    protected: bool
    revision: int
    updated_at: datetime
    updated_by: str


@dataclass(frozen=True, kw_only=True)
class AliasMoveView:
    """One move of an alias, from and to versions by number: from null when it was set, to null when it was removed.

    It meant `after` from `at` until the next move of it, at `until`; null when there was none yet.
    """

    revision: int
    before: int | None
    after: int | None
    at: datetime
    until: datetime | None
    by: str


@dataclass(frozen=True)
class FileView:
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class StoredProjectionView:
    """A pair of matrices that follows no recipe, kept once for all adapters that use it."""

    digest: str
    size_bytes: int
    adapter_count: int
    created_at: datetime


@dataclass(frozen=True)
class ReportedScore:
    """A score that the publisher says in the card. Nobody here has measured it."""

    dataset: str
    metric: str
    value: float


@dataclass(frozen=True, kw_only=True)
class VersionDetail(VersionSummary):
    """A version whole. `manifest` is the parsed `vera.json`; `card_html` is sanitised. `stored_projection` is
    null where a recipe gives the matrices, `parent` where there is none or it is hidden. `source` is where its pusher
    says it was made; `reported` are scores of their own; `provenance` names the CI job that has pushed it, as signed.
    `content` are files that were asked for with it, in base64, by path."""

    id: str
    manifest: Mapping[str, Any]
    files: tuple[FileView, ...]
    card_html: str
    stored_projection: StoredProjectionView | None
    parent: str | None
    source: SourceView | None
    aliases: tuple[str, ...]
    evaluations: tuple[EvaluationView, ...]
    reported: tuple[ReportedScore, ...]
    warnings: tuple[str, ...]
    provenance: Mapping[str, str] | None
    content: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreChange:
    """How two versions score on one suite. `comparison` is null where the suite has changed in between, and
    `evaluation_ids` are of the one before and of the one after."""

    suite: str
    metric: str
    before: float
    after: float
    comparison: Comparison | None
    evaluation_ids: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class VersionDiff:
    """What changed from one version to another. `same_projection` false: directions of vectors mean nothing, and only
    their sizes can be compared."""

    before: str
    after: str
    same_projection: bool
    added: tuple[str, ...]
    removed: tuple[str, ...]
    vectors: tuple[VectorChange, ...]
    fields: tuple[FieldChange, ...]
    card: str
    evaluations: tuple[ScoreChange, ...]


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a version comes from, the nearest first, and what was made from it, the latest first."""

    ref: str
    base: BaseName
    ancestors: tuple[str, ...]
    children: tuple[str, ...]
