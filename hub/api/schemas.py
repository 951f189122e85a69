"""The bodies that clients send. What a field may mean is the domain's to say; here is its type."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hub.domain.jobs import MAX_ENVIRONMENT
from hub.domain.registering import MAX_DEFINITION
from hub.domain.tokens import MAX_DAYS
from hub.domain.views.accounts import RoleName
from hub.domain.views.adapters import AccessState, Gate, Visibility

Text = Annotated[str, Field(max_length=200)]
Named = Annotated[str, Field(min_length=1, max_length=200)]
Number40 = Annotated[str, Field(pattern=r"^[0-9]{1,40}$")]
# How long it may be is the domain's to say.
Reasons = Annotated[str, Field(max_length=10_000)]
Password = Annotated[str, Field(max_length=1000)]
MOST_ITEMS = 1_000_000
# Of a base that large bodies have room for: the largest of today have some ten thousand.
MOST_TENSORS = 250_000
# Characters of what an item was answered: a decoder that does not stop writes so much, and no more.
MAX_OUTPUT = 100_000
Fence = Annotated[int, Field(ge=0, lt=1 << 63)]
Number = Annotated[float, Field(ge=-1e12, le=1e12, strict=False)]  # 1 is as good as 1.0


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class BaseRegistration(Body):
    name: Text
    revision: Text | None = None
    # Rows of name, dtype, shape, sha256; the domain reads them.
    tensors: Annotated[list[Annotated[list[Any], Field(max_length=4)]], Field(min_length=1, max_length=MOST_TENSORS)]


class AdapterChange(Body):
    """What is left out stays as it is; `gated` null is no gate."""

    visibility: Visibility | None = None
    gated: Gate | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.visibility is None and "gated" not in self.model_fields_set:
            raise ValueError("say what is to change: visibility, gated or both")
        return self


class Move(Body):
    """`to` is `acme/topics`."""

    to: Named


class AccessWish(Body):
    message: Annotated[str, Field(max_length=1000)] | None = None


class AccessDecision(Body):
    state: AccessState
    reason: Annotated[str, Field(max_length=1000)] | None = None


class Reason(Body):
    reason: Reasons


class Deprecation(Body):
    message: Reasons
    replacement: Text | None = None


class AliasChange(Body):
    version: Text
    expected: Annotated[str, Field(pattern=r"^v[1-9][0-9]{0,8}$")] | None = None
    protected: bool | None = None


class Promotion(Body):
    evaluation: Text
    minimum: Text | None = None
    against: Text | None = None
    margin: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


class NewOrganisation(Body):
    name: Text


class RoleChange(Body):
    role: RoleName


class InvitationRequest(Body):
    user: Text
    role: RoleName


class NewToken(Body):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    scopes: Annotated[list[Text], Field(max_length=20)] = []
    expires_in_days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = 90
    restricted_to: Annotated[list[Text], Field(min_length=1, max_length=100)] | None = None
    organisation: Text | None = None
    for_worker: bool = False


class NewPublisher(Body):
    adapter: Text | None = None
    issuer: Named
    repository: Named
    repository_id: Number40
    owner_id: Number40
    workflow: Named
    environment: Annotated[str, Field(min_length=1, max_length=100)] | None = None


class NewWebhook(Body):
    url: Annotated[str, Field(min_length=1, max_length=500)]
    adapter: Text | None = None
    actions: Annotated[list[Text], Field(min_length=1, max_length=100)] | None = None


class JobIdentity(Body):
    token: Annotated[str, Field(max_length=20_000)]
    namespace: Text | None = None


class NewUser(Body):
    name: Text
    is_admin: bool = False


class UserChange(Body):
    is_admin: bool


class CodeLogin(Body):
    user: Text | None = None
    password: Password | None = None


class PasswordLogin(Body):
    user: Text
    password: Password


class PasswordChange(Body):
    old: Password | None = None
    new: Password


class EvaluationRequest(Body):
    ref: Text
    suite: Text


class SuiteRegistration(Body):
    name: Text
    definition: Annotated[dict[str, Any], Field(description=f"At most {MAX_DEFINITION:,} bytes as RFC 8785 has it.")]
    title: Text
    metric: Text
    items: Fence
    labels: Annotated[list[Text], Field(max_length=10_000)] = []
    baselines: Annotated[dict[Text, Number], Field(max_length=20)] = {}


class Signature(Body):
    keyid: Text
    sig: Text


class Envelope(Body):
    """What a worker has signed: DSSE version 1 (docs/evaluation.md)."""

    payloadType: Text  # noqa: N815  # as the standard spells it
    payload: Annotated[str, Field(max_length=200_000)]
    signatures: Annotated[list[Signature], Field(min_length=1, max_length=1)]


class WorkerEnrolment(Body):
    code: Text
    name: Annotated[str, Field(min_length=1, max_length=100)]
    public_key: Text
    # None of workers of older releases, which are told so.
    proof: Envelope | None = None


class WorkerRegistration(Body):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    public_key: Text
    proof: Envelope | None = None
    memory_bytes: Annotated[int, Field(ge=1, lt=2**53)] | None = None
    lacks: (
        Annotated[dict[Text, Annotated[dict[Text, Text], Field(min_length=1, max_length=20)]], Field(max_length=100)]
        | None
    ) = None
    suites: Annotated[list[SuiteRegistration], Field(max_length=100)]


class WorkerRegistered(BaseModel):
    worker_id: str


class ClaimRequest(Body):
    worker_id: Text
    suites: Annotated[list[Text], Field(max_length=100)]
    bases: Annotated[list[Text], Field(max_length=1000)] | None = None


class Heartbeat(Body):
    fence: Fence
    items_done: Annotated[int, Field(ge=0, le=1_000_000)] | None = None


Outcomes = Annotated[
    list[Number | Annotated[list[Number], Field(min_length=2, max_length=64)]],
    Field(min_length=1, max_length=MOST_ITEMS),
]


class ResultReport(Body):
    fence: Fence
    # A number, or several: how many is for the metric to say.
    outcomes: Outcomes
    beside: Annotated[dict[Text, Outcomes], Field(max_length=20)] = {}
    outputs: Annotated[list[Annotated[str, Field(max_length=MAX_OUTPUT)]], Field(max_length=MOST_ITEMS)]
    envelope: Envelope
    # Of the digests in what is signed; none of workers of older releases.
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    environment: Annotated[
        dict[str, Any], Field(description=f"At most {MAX_ENVIRONMENT:,} bytes as RFC 8785 has it.")
    ] = {}
    seconds: Annotated[float, Field(ge=0, le=1e9, strict=False)] = 0.0


class FailureReport(Body):
    fence: Fence
    code: Annotated[str, Field(min_length=1, max_length=100)]
    detail: Annotated[str, Field(max_length=20_000)] = ""
    retryable: bool = False


class Health(BaseModel):
    status: str
    version: str
