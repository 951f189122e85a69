"""What a hub answers, as docs/api.md describes it.

Times are RFC 3339 text in UTC and sizes are bytes, as on the wire. Whatever stands in here was
said by the hub: a digest is a claim until `sdk.fetching` has compared it with the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from sdk.decoding import decode
from vera.fingerprint import BaseFingerprint


class Answer:
    """Base of the answers: each is made from JSON and checks it."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Raises BadAnswer."""
        return decode(value, cls)


# -- Service --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Health(Answer):
    status: str
    version: str


@dataclass(frozen=True)
class RoleIn(Answer):
    """An organisation, and what somebody is in it."""

    name: str
    role: str


@dataclass(frozen=True)
class Account(Answer):
    """Whose the token is, and what it may do."""

    name: str
    kind: str
    scopes: tuple[str, ...]
    organisations: tuple[RoleIn, ...] = ()
    restricted_to: tuple[str, ...] | None = None
    is_admin: bool = False


@dataclass(frozen=True)
class SignedIn(Answer):
    """A token with all that its user may. It is in no repr."""

    user: str
    is_admin: bool
    token: str = field(repr=False)
    expires_at: str


@dataclass(frozen=True, kw_only=True)
class DeviceCode(Answer):
    """What a program that asks to be let in is told: `user_code` is shown to its user, `device_code` to nobody."""

    device_code: str = field(repr=False)
    user_code: str
    verification_uri: str
    verification_uri_complete: str
    expires_in: int
    interval: int


@dataclass(frozen=True, kw_only=True)
class DeviceToken(Answer):
    """The token of a program that was let in, and the seconds it lasts."""

    access_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, kw_only=True)
class Token(Answer):
    """A token without its secret. `kind` is personal, service, worker or session."""

    id: str
    name: str | None
    kind: str
    account: str
    last4: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...] | None
    created_by: str | None
    created_at: str
    expires_at: str
    last_used_at: str | None
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class NewToken(Token):
    """A token with its secret, which no later answer holds."""

    token: str = field(repr=False)


@dataclass(frozen=True)
class VersionDownloads(Answer):
    """How many have downloaded a version on a day."""

    day: str
    version: int
    count: int


@dataclass(frozen=True)
class Downloads(Answer):
    """How often an adapter was downloaded: ever, and by version and day where that was more than never."""

    id: str
    total: int
    days: tuple[VersionDownloads, ...]


@dataclass(frozen=True, kw_only=True)
class Webhook(Answer):
    """An address that hears of the changes of `target`, a namespace or an adapter. `actions` None is all of them."""

    id: str
    target: str
    url: str
    actions: tuple[str, ...] | None
    created_by: str
    created_at: str
    disabled_at: str | None


@dataclass(frozen=True, kw_only=True)
class NewWebhook(Webhook):
    """A webhook with the secret that signs what is sent to it, which no later answer holds."""

    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Delivery(Answer):
    """One message, and what came of the last attempt to send it. `state` is waiting, done or failed."""

    id: str
    message_id: str
    action: str
    payload: Mapping[str, Any]
    state: str
    attempts: int
    status: int | None
    error: str | None
    milliseconds: int | None
    created_at: str
    tried_at: str | None
    next_at: str | None


@dataclass(frozen=True, kw_only=True)
class AuditEvent(Answer):
    """Who has changed what. `chain` is the namespace, empty for the hub; `hash` covers all the rest."""

    chain: str
    number: int
    at: str
    actor: str
    token_id: int | None
    action: str
    subject: str
    facts: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True)
class Publisher(Answer):
    """A workflow of a CI system that may push to `target`, a namespace or an adapter."""

    id: str
    target: str
    issuer: str
    repository: str
    repository_id: str
    owner_id: str
    workflow: str
    environment: str | None
    created_by: str
    created_at: str


@dataclass(frozen=True)
class Oidc(Answer):
    """For whom a job must ask its CI system to vouch, and whose word the hub takes."""

    audience: str
    issuers: tuple[str, ...]


@dataclass(frozen=True)
class JobToken(Answer):
    """The token of a CI job, for a quarter of an hour. It is in no repr."""

    token: str = field(repr=False)
    expires_at: str
    account: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...]


@dataclass(frozen=True)
class User(Answer):
    name: str
    is_admin: bool
    created_at: str


@dataclass(frozen=True)
class Code(Answer):
    """What a user signs in with, once."""

    user: str
    code: str = field(repr=False)
    expires_at: str


# -- Organisations --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Organisation(Answer):
    """An organisation. `role` is that of whoever asked, None for everybody else."""

    name: str
    role: str | None
    created_at: str


@dataclass(frozen=True)
class Member(Answer):
    user: str
    role: str
    since: str


@dataclass(frozen=True)
class Invitation(Answer):
    organisation: str
    user: str
    role: str
    invited_by: str
    created_at: str
    expires_at: str


# -- Bases ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BaseName(Answer):
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Base(Answer):
    fingerprint: str
    name: str
    revision: str | None
    dtype: str
    parameters: int
    size_bytes: int
    tensor_count: int
    adapter_count: int
    created_at: str


@dataclass(frozen=True)
class BaseDetail(Base):
    """A base with its table of tensors: rows of name, dtype, shape, sha256."""

    tensors: tuple[Any, ...]

    @property
    def table(self) -> BaseFingerprint:
        """The checked table. Its `value` is computed here: the hub's `fingerprint` is a claim. Raises BaseUnreadable."""
        return BaseFingerprint.from_rows(self.tensors)


# -- Adapters and versions ------------------------------------------------------------------------


@dataclass(frozen=True)
class Task(Answer):
    kind: str
    labels: tuple[str, ...]


@dataclass(frozen=True)
class File(Answer):
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ScoreBeside(Answer):
    """The score of a metric that stands beside the one that ranks, with its 95% interval."""

    score: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Evaluation(Answer):
    """One version on one suite. `state` is waiting, running, done or failed; `estimate_seconds` says in how long it may
    be done, where that can be known. `beside` has the scores of the suite's other metrics, None for one that the worker
    could not compute."""

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

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed")


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
        """Why the version was taken back, "no reason given" when the hub does not say; None when it was not."""
        said = self.yanked.get("reason") if isinstance(self.yanked, Mapping) else self.yanked
        if self.yanked is None or self.yanked is False:
            return None
        return said if isinstance(said, str) and said else "no reason given"


@dataclass(frozen=True)
class StoredProjection(Answer):
    """A pair of matrices that follows no recipe, kept once for all adapters that use it."""

    digest: str
    size_bytes: int
    adapter_count: int
    created_at: str


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
    parent: str | None = None
    source: Source | None = None
    aliases: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Pushed:
    """The answer to a push. `is_new` is False when the hub had this version already."""

    version: Version
    is_new: bool


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


@dataclass(frozen=True)
class Alias(Answer):
    """What an alias means. `revision` grows with every move; a protected one takes a maintainer to move."""

    name: str
    version: int
    ref: str
    digest: str
    protected: bool
    revision: int
    updated_at: str
    updated_by: str


@dataclass(frozen=True)
class AliasMove(Answer):
    """One move of an alias, from and to versions by number; None is "not set"."""

    revision: int
    before: int | None
    after: int | None
    at: str
    by: str


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


# -- Suites, evaluations, leaderboards ------------------------------------------------------------


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


@dataclass(frozen=True)
class Leaderboard(Answer):
    suite: Suite
    rows: tuple[LeaderboardRow, ...]


# -- Workers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WorkerId(Answer):
    worker_id: str


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
    commit: str
    suite: str
    spec: Mapping[str, Any]
    spec_digest: str
    base: JobBase
    lease_seconds: int
