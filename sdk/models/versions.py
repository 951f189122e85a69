"""What a hub answers about versions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdk.models.answer import Answer
from sdk.models.evaluations import Evaluation


@dataclass(frozen=True)
class File(Answer):
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, kw_only=True)
class Deprecation(Answer):
    """Why a version is not to be used any more, and what instead (a reference)."""

    message: str
    replacement: str | None = None


@dataclass(frozen=True, kw_only=True)
class Source(Answer):
    """Where a version was made: the git commit and the CI run, as whoever pushed it says."""

    commit: str | None = None
    run: str | None = None


@dataclass(frozen=True, kw_only=True)
class BundledVersion(Answer):
    """Which version it is whose files came with this, and what became of it. The files are what they are: not yet verified."""

    version: int
    commit: str
    digest: str
    yanked: Any = None
    deprecated: Deprecation | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    @property
    def yank_reason(self) -> str | None:
        return _reason_in(self.yanked)


@dataclass(frozen=True)
class VersionSummary(Answer):
    """One version. `quarantined` and `deleted` are the reasons why it cannot be had, None where it can."""

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
    created_at: str
    created_by: str
    # A hub that cannot yank does not say; others say false, true, a reason, or {"reason": …}.
    yanked: Any = field(default=None, kw_only=True)
    prerelease: bool = field(default=False, kw_only=True)
    deprecated: Deprecation | None = field(default=None, kw_only=True)
    quarantined: str | None = field(default=None, kw_only=True)
    deleted: str | None = field(default=None, kw_only=True)

    @property
    def yank_reason(self) -> str | None:
        return _reason_in(self.yanked)


@dataclass(frozen=True)
class StoredProjection(Answer):
    """A pair of matrices that follows no recipe, kept once for all adapters that use it."""

    digest: str
    size_bytes: int
    adapter_count: int
    created_at: str


@dataclass(frozen=True)
class ReportedScore(Answer):
    """A score that the publisher says in the card. Nobody at the hub has measured it."""

    dataset: str
    metric: str
    value: float


@dataclass(frozen=True)
class Version(VersionSummary):
    id: str
    manifest: Mapping[str, Any]
    files: tuple[File, ...]
    card_html: str
    evaluations: tuple[Evaluation, ...]
    warnings: tuple[str, ...]
    stored_projection: StoredProjection | None = None
    provenance: Mapping[str, str] | None = None
    reported: tuple[ReportedScore, ...] = ()
    parent: str | None = None
    source: Source | None = None
    aliases: tuple[str, ...] = ()
    # Files that were asked for with it, in base64, by path; an older hub sends none.
    content: Mapping[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a push says beside its files; None is what it leaves unsaid.

    `visibility` is who sees an adapter that is new, "public" (as without it) or "private"; one that is there must
    have it already. A pre-release is never `latest`. `parent` is the version it was made from: `v2` of the same
    adapter, or a reference; the one before it when that is left unsaid.
    """

    message: str | None = None
    visibility: str | None = None
    prerelease: bool | None = None
    parent: str | None = None
    source: Source | None = None

    def to_parts(self) -> dict[str, str]:
        """The parts of the request that say it."""
        parts = {
            "message": self.message,
            "visibility": self.visibility,
            "prerelease": None if self.prerelease is None else str(self.prerelease).lower(),
            "parent": self.parent,
            "source_commit": self.source and self.source.commit,
            "source_run": self.source and self.source.run,
        }
        return {name: value for name, value in parts.items() if value}


def _reason_in(yanked: Any) -> str | None:
    """Why the version was taken back, "no reason given" when the hub does not say; None when it was not."""
    said = yanked.get("reason") if isinstance(yanked, Mapping) else yanked
    if yanked is None or yanked is False:
        return None
    return said if isinstance(said, str) and said else "no reason given"


@dataclass(frozen=True)
class Pushed:
    """The answer to a push. `is_new` is False when the hub had this version already."""

    version: Version
    is_new: bool
