"""What the hub shows: the shapes of `docs/api.md`, the same for the API and the pages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Generic, Literal, TypeVar

from vera.adapter_difference import FieldChange, VectorChange

Item = TypeVar("Item")
State = Literal["waiting", "running", "done", "failed"]
Visibility = Literal["public", "private"]
Gate = Literal["auto", "manual"]
AccessState = Literal["pending", "accepted", "rejected"]
RoleName = Literal["reader", "publisher", "maintainer", "owner"]
TensorRow = tuple[str, str, tuple[int, ...], str]


@dataclass(frozen=True)
class Page(Generic[Item]):
    """Some items of a list. `next` is the cursor of the page after this one."""

    items: tuple[Item, ...]
    next: str | None = None


@dataclass(frozen=True)
class BaseName:
    """A base as something else names it."""

    name: str
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class BaseView:
    """A registered base. `dtype` is the one most of its weights are stored in."""

    fingerprint: str
    name: str
    revision: str | None
    dtype: str
    parameters: int
    size_bytes: int
    tensor_count: int
    adapter_count: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class BaseDetail(BaseView):
    """A base and its tensor table: rows of name, dtype, shape and sha256."""

    tensors: tuple[TensorRow, ...]


@dataclass(frozen=True)
class TaskView:
    kind: str
    labels: tuple[str, ...]


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
    """One move of an alias, from and to versions by number: from null when it was set, to null when it was removed."""

    revision: int
    before: int | None
    after: int | None
    at: datetime
    by: str


@dataclass(frozen=True, kw_only=True)
class AdapterDetail(AdapterView):
    """An adapter, all of its versions, newest first, and its aliases by name."""

    versions: tuple[VersionSummary, ...]
    aliases: tuple[AliasView, ...]


@dataclass(frozen=True)
class FileView:
    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class ScoreBeside:
    """The score of a metric that stands beside the one that ranks, with its 95% interval."""

    score: float
    interval: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class EvaluationView:
    """One suite on one version. `position` counts from 1 while it waits; `reason` says why it waits or failed, and
    `estimate_seconds` in how long it may be done, by how long this suite has lately taken; null when nobody can know.
    `beside` has the scores of the suite's other metrics, null for one that the worker could not compute."""

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


@dataclass(frozen=True, kw_only=True)
class StoredProjectionView:
    """A pair of matrices that follows no recipe, kept once for all adapters that use it."""

    digest: str
    size_bytes: int
    adapter_count: int
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class VersionDetail(VersionSummary):
    """A version whole. `manifest` is the parsed `vera.json`; `card_html` is sanitised. `stored_projection` is
    null where a recipe gives the matrices, `parent` where there is none or it is hidden. `source` is where its pusher
    says it was made; `provenance` names the CI job that has pushed it, as signed."""

    id: str
    manifest: Mapping[str, Any]
    files: tuple[FileView, ...]
    card_html: str
    stored_projection: StoredProjectionView | None
    parent: str | None
    source: SourceView | None
    aliases: tuple[str, ...]
    evaluations: tuple[EvaluationView, ...]
    warnings: tuple[str, ...]
    provenance: Mapping[str, str] | None


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


@dataclass(frozen=True, kw_only=True)
class ScoreChange:
    """How two versions score on one suite. `comparison` is null where the suite has changed in between."""

    suite: str
    metric: str
    before: float
    after: float
    comparison: Comparison | None


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


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One version on a board. `rank` counts the versions that score higher; `tied_with_best` is the
    paired test against the first row (which is tied with itself)."""

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
    commit: str
    suite: str
    spec: Mapping[str, Any]
    spec_digest: str
    base: JobBase
    lease_seconds: int


# -- Accounts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RoleView:
    """An organisation, and what somebody is in it."""

    name: str
    role: RoleName


@dataclass(frozen=True, kw_only=True)
class PrincipalView:
    """Who a token speaks for, and what it may do."""

    name: str
    kind: str
    scopes: tuple[str, ...]
    organisations: tuple[RoleView, ...]
    restricted_to: tuple[str, ...] | None
    is_admin: bool


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """A token without its secret. `kind` is "personal", "service", "worker" or "session"."""

    id: str
    name: str | None
    kind: str
    account: str
    last4: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...] | None
    created_by: str | None
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    is_current: bool


@dataclass(frozen=True, kw_only=True)
class NewTokenView(TokenView):
    """A token with its secret, which is shown this once."""

    token: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class PublisherView:
    """A workflow that may push to `target`, a namespace or an adapter."""

    id: str
    target: str
    issuer: str
    repository: str
    repository_id: str
    owner_id: str
    workflow: str
    environment: str | None
    created_by: str
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class OidcView:
    audience: str
    issuers: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class JobTokenView:
    """The token of a CI job."""

    token: str = field(repr=False)
    expires_at: datetime
    account: str
    scopes: tuple[str, ...]
    restricted_to: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UserView:
    name: str
    is_admin: bool
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class CodeView:
    """What a user signs in with, once."""

    user: str
    code: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class LoginView:
    """A token with all that its user may."""

    user: str
    is_admin: bool
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class OrganisationView:
    """An organisation. `role` is that of whoever asks, None for everybody else."""

    name: str
    role: RoleName | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class MemberView:
    user: str
    role: RoleName
    since: datetime


@dataclass(frozen=True, kw_only=True)
class InvitationView:
    """A role that waits for `user` to accept it."""

    organisation: str
    user: str
    role: RoleName
    invited_by: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class VersionDownloads:
    """How many have downloaded a version on a day (UTC)."""

    day: date
    version: int
    count: int


@dataclass(frozen=True, kw_only=True)
class DownloadsView:
    """How often an adapter was downloaded: ever, and by version and day where that was more than never."""

    id: str
    total: int
    days: tuple[VersionDownloads, ...]


# -- The record -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AuditEventView:
    """Who has changed what. `chain` is the namespace, empty for the hub; `hash` covers all the rest."""

    chain: str
    number: int
    at: datetime
    actor: str
    token_id: int | None
    action: str
    subject: str
    facts: Mapping[str, Any]
    previous: str
    hash: str


@dataclass(frozen=True, kw_only=True)
class WebhookView:
    """An address that hears of the changes of `target`, a namespace or an adapter. `actions` None is all of them."""

    id: str
    target: str
    url: str
    actions: tuple[str, ...] | None
    created_by: str
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class NewWebhookView(WebhookView):
    """A webhook with the secret that signs what is sent to it, which is shown this once."""

    secret: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class DeliveryView:
    """One message, and what came of the last attempt to send it. `next_at` is null when none follows."""

    id: str
    message_id: str
    action: str
    payload: Mapping[str, Any]
    state: Literal["waiting", "done", "failed"]
    attempts: int
    status: int | None
    error: str | None
    milliseconds: int | None
    created_at: datetime
    tried_at: datetime | None
    next_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class FeedEntry:
    """Something that became of `ref`. `number` is its place in the record of the namespace."""

    number: int
    ref: str
    adapter: str
    title: str
    author: str
    at: datetime
    text: str | None


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
