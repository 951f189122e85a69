"""A hub over HTTP: one method per endpoint of docs/api.md.

Nothing a hub says is trusted to be small or well formed: answers are counted while they arrive,
decoded strictly and refused by BadAnswer. Whether bytes are the promised ones is the business of
`sdk.fetching`.
"""

from __future__ import annotations

import ssl
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from http import HTTPStatus
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar
from urllib.parse import quote, urlsplit

from sdk.config import Config, is_loopback
from sdk.errors import BadAnswer, HubError, HubWarning, NotFound, Offline, Unavailable, of_problem
from sdk.models import (
    Access,
    AccessRequest,
    Account,
    Adapter,
    AdapterDetail,
    Alias,
    AliasMove,
    Answer,
    AuditEvent,
    Base,
    BaseDetail,
    Code,
    Comparison,
    Delivery,
    DeviceCode,
    DeviceToken,
    Downloads,
    Evaluation,
    Facets,
    FoundAdapter,
    Health,
    Invitation,
    Job,
    JobToken,
    Leaderboard,
    Lineage,
    Member,
    NewToken,
    NewWebhook,
    Oidc,
    Organisation,
    Publisher,
    Pushed,
    Said,
    SignedIn,
    Suite,
    Token,
    User,
    Version,
    VersionDiff,
    VersionSummary,
    Webhook,
    WorkerId,
)
from sdk.retrying import Retries
from vera import __version__, strict_json
from vera.errors import RefError
from vera.ref import LATEST, AdapterRef

if TYPE_CHECKING:
    import httpx2  # 80 ms: imported late, so that a load from the cache does not pay for it

A = TypeVar("A", bound=Answer)
# What a parameter of an address may be; None leaves it out, and a list repeats it.
Asked = str | int | float | Sequence[str] | None

# The tensor table of a base with 100,000 tensors is about 20 MB of JSON.
MAX_JSON_BYTES = 64 << 20
MAX_JSON_DEPTH = 32

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 60.0

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
# The status of a request that was turned away before anything was done: safe to repeat, whatever it was.
_NOT_DONE = {429, 503}
_MAYBE_DONE = {502, 504}


@dataclass(frozen=True)
class _Reply:
    status: int
    body: bytes
    date: str | None

    def json(self) -> object:
        try:
            return strict_json.loads(self.body, max_depth=MAX_JSON_DEPTH)
        except ValueError as error:
            raise BadAnswer(
                f"The hub's answer cannot be read: {error}. Is it a Vera Hub? Check VERA_HUB_URL."
            ) from error


class Hub:
    """A hub. Connects when it is first asked something; close it, or use it in a `with`.

    Requests that can be repeated without harm are repeated a few times when the hub cannot be
    reached or says it is busy. Raises the errors of `sdk.errors`. Several threads may share one.
    """

    def __init__(
        self, config: Config | None = None, *, http: httpx2.Client | None = None, retries: Retries | None = None
    ) -> None:
        """`http` replaces the connection, for instance to reach an app in the same process."""
        self.config = config or Config.resolve()
        self._given_http = http
        self._retries = retries or Retries()
        self._told: set[str] = set()

    def __repr__(self) -> str:
        return f"Hub({self.config.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections this Hub opened. Twice is the same as once."""
        if self._given_http is None and "_http" in self.__dict__:
            self._http.close()
            del self._http

    # -- Service ----------------------------------------------------------------------------------

    def health(self) -> Health:
        return Health.from_json(self._get("/healthz").json())

    def clock_skew_s(self) -> float | None:
        """How many seconds the hub's clock is ahead of ours, None when it does not say. Good to a second."""
        date = self._get("/healthz").date
        then = _parse_date(date)
        return None if then is None else (then - datetime.now(UTC)).total_seconds()

    def whoami(self) -> Account:
        return Account.from_json(self._get("/api/v1/whoami").json())

    # -- Signing in, tokens, users ----------------------------------------------------------------

    def use_code(self, *, user: str | None = None, password: str | None = None) -> SignedIn:
        """The login that this Hub's token, a sign-in code, is good for once. `password` becomes the user's."""
        body = {"user": user, "password": password}
        return SignedIn.from_json(self._post("/api/v1/login", body).json())

    def sign_in(self, user: str, password: str) -> SignedIn:
        body = {"user": user, "password": password}
        return SignedIn.from_json(self._post("/api/v1/login/password", body).json())

    def begin_device_login(self, name: str) -> DeviceCode:
        """Asks to be let in as the program `name`: somebody answers that in a browser, by the code it gives."""
        return DeviceCode.from_json(self._post("/oauth/device", {"client_id": "vera-hub", "device_name": name}).json())

    def collect_device_login(self, device_code: str) -> DeviceToken:
        """The token, once somebody has let the program in. Raises Refused, with the code AUTHORIZATION_PENDING until
        somebody has answered, and for good when it was refused or took too long."""
        body = {"client_id": "vera-hub", "grant_type": _DEVICE_CODE, "device_code": device_code}
        return DeviceToken.from_json(self._post("/oauth/token", body).json())

    def set_password(self, new: str, *, old: str | None = None) -> None:
        self._send(
            "PUT",
            "/api/v1/password",
            is_idempotent=False,
            content=strict_json.dumps({"old": old, "new": new}),
            headers={"Content-Type": "application/json"},
        )

    def list_tokens(self, *, organisation: str | None = None) -> Iterator[Token]:
        """Your usable tokens, or those of an organisation you own."""
        return self._pages("/api/v1/tokens", {"organisation": organisation}, Token)

    def create_token(
        self,
        name: str,
        scopes: Sequence[str] = (),
        *,
        expires_in_days: int = 90,
        restricted_to: Sequence[str] | None = None,
        organisation: str | None = None,
        for_worker: bool = False,
    ) -> NewToken:
        """A token for a program. `restricted_to` are namespaces (acme) and adapters (acme/topics)."""
        body = {
            "name": name,
            "scopes": list(scopes),
            "expires_in_days": expires_in_days,
            "restricted_to": None if restricted_to is None else list(restricted_to),
            "organisation": organisation,
            "for_worker": for_worker,
        }
        return NewToken.from_json(self._post("/api/v1/tokens", body).json())

    def revoke_token(self, token_id: str) -> None:
        """`token_id` may be "current": the token that this Hub sends."""
        self._delete(f"/api/v1/tokens/{_segment(token_id)}")

    def oidc(self) -> Oidc:
        """Raises NotFound when the hub takes no identities of CI jobs."""
        return Oidc.from_json(self._get("/api/v1/oidc").json())

    def ask_ci_for_identity(self, url: str, request_token: str) -> str:
        """The identity for this hub that GitHub Actions gives a job at its ACTIONS_ID_TOKEN_REQUEST_URL."""
        import httpx2

        try:
            answer = self._http.get(
                url,
                params={"audience": self.oidc().audience},
                headers={"Authorization": f"Bearer {request_token}"},
                timeout=ANSWER_TIMEOUT_S,
                follow_redirects=False,
            )
            value = answer.json().get("value") if answer.is_success else None
        except (httpx2.HTTPError, ValueError, AttributeError) as error:
            raise Unavailable(f"The CI system does not say who the job is ({error}): try again.") from error
        if not isinstance(value, str):
            raise BadAnswer(
                f"The CI system answers {answer.status_code} and no identity: give the job `permissions: id-token: write`."
            )
        return value

    def exchange_identity(self, identity: str, *, namespace: str | None = None) -> JobToken:
        """A token for the identity of a CI job, which is good for one exchange."""
        body = {"token": identity, "namespace": namespace}
        return JobToken.from_json(self._post("/api/v1/oidc/token", body).json())

    def list_publishers(self, namespace: str) -> Iterator[Publisher]:
        return self._pages(f"/api/v1/namespaces/{_segment(namespace)}/publishers", {}, Publisher)

    def add_publisher(
        self,
        namespace: str,
        *,
        adapter: str | None = None,
        issuer: str,
        repository: str,
        repository_id: str,
        owner_id: str,
        workflow: str,
        environment: str | None = None,
    ) -> Publisher:
        """Lets the jobs of a workflow push to `namespace`, or to its adapter `adapter` alone."""
        body = {
            "adapter": adapter,
            "issuer": issuer,
            "repository": repository,
            "repository_id": repository_id,
            "owner_id": owner_id,
            "workflow": workflow,
            "environment": environment,
        }
        return Publisher.from_json(self._post(f"/api/v1/namespaces/{_segment(namespace)}/publishers", body).json())

    def remove_publisher(self, namespace: str, publisher_id: str) -> None:
        self._delete(f"/api/v1/namespaces/{_segment(namespace)}/publishers/{_segment(publisher_id)}")

    def list_users(self) -> Iterator[User]:
        return self._pages("/api/v1/users", {}, User)

    def create_user(self, name: str, *, is_admin: bool = False) -> Code:
        return Code.from_json(self._post("/api/v1/users", {"name": name, "is_admin": is_admin}).json())

    def create_code(self, user: str) -> Code:
        """Another sign-in code, for a user who has lost everything."""
        return Code.from_json(self._post(f"/api/v1/users/{_segment(user)}/codes", {}).json())

    def set_admin(self, user: str, *, is_admin: bool) -> User:
        return User.from_json(self._write("PATCH", f"/api/v1/users/{_segment(user)}", {"is_admin": is_admin}).json())

    def delete_user(self, user: str) -> None:
        self._delete(f"/api/v1/users/{_segment(user)}")

    # -- Organisations ----------------------------------------------------------------------------

    def create_organisation(self, name: str) -> Organisation:
        """A new organisation, which you own."""
        return Organisation.from_json(self._post("/api/v1/orgs", {"name": name}).json())

    def list_organisations(self) -> Iterator[Organisation]:
        """Those you are in."""
        return self._pages("/api/v1/orgs", {}, Organisation)

    def get_organisation(self, name: str) -> Organisation:
        return Organisation.from_json(self._get(f"/api/v1/orgs/{_segment(name)}").json())

    def delete_organisation(self, name: str) -> None:
        """Ends an organisation that has no adapters. Nobody ever gets its name."""
        self._delete(f"/api/v1/orgs/{_segment(name)}")

    def list_members(self, organisation: str) -> Iterator[Member]:
        return self._pages(f"/api/v1/orgs/{_segment(organisation)}/members", {}, Member)

    def change_role(self, organisation: str, user: str, role: str) -> Member:
        """`role` is reader, publisher, maintainer or owner."""
        path = f"/api/v1/orgs/{_segment(organisation)}/members/{_segment(user)}"
        return Member.from_json(self._write("PUT", path, {"role": role}).json())

    def remove_member(self, organisation: str, user: str) -> None:
        """Takes a member out; yourself, to leave."""
        self._delete(f"/api/v1/orgs/{_segment(organisation)}/members/{_segment(user)}")

    def list_invitations(self, organisation: str | None = None) -> Iterator[Invitation]:
        """The open invitations to an organisation, or those to you."""
        path = "/api/v1/invitations" if organisation is None else f"/api/v1/orgs/{_segment(organisation)}/invitations"
        return self._pages(path, {}, Invitation)

    def invite(self, organisation: str, user: str, role: str) -> Invitation:
        """Asks a user to join, in the place of an earlier invitation."""
        path, body = f"/api/v1/orgs/{_segment(organisation)}/invitations", {"user": user, "role": role}
        return Invitation.from_json(self._post(path, body, is_idempotent=True).json())

    def withdraw_invitation(self, organisation: str, user: str) -> None:
        self._delete(f"/api/v1/orgs/{_segment(organisation)}/invitations/{_segment(user)}")

    def accept_invitation(self, organisation: str) -> Organisation:
        return Organisation.from_json(self._post(f"/api/v1/invitations/{_segment(organisation)}/accept", {}).json())

    def decline_invitation(self, organisation: str) -> None:
        self._post(f"/api/v1/invitations/{_segment(organisation)}/decline", {})

    # -- The record -------------------------------------------------------------------------------

    def audit(self, namespace: str, adapter: str | None = None) -> Iterator[AuditEvent]:
        """Who has changed what in a namespace, or of one adapter in it: the newest first. For owners and admins."""
        return self._pages(f"/api/v1/namespaces/{_segment(namespace)}/audit", {"adapter": adapter}, AuditEvent)

    def audit_of_hub(self) -> Iterator[AuditEvent]:
        """Who has changed users and bases: the newest first. For admins."""
        return self._pages("/api/v1/audit", {}, AuditEvent)

    def feed(self, namespace: str, adapter: str | None = None) -> bytes:
        """What lately became of an adapter, or of those of a namespace, as Atom."""
        path = f"/api/v1/namespaces/{_segment(namespace)}/feed"
        if adapter is not None:
            path = f"/api/v1/adapters/{_segment(namespace)}/{_segment(adapter)}/feed"
        return self._get(path).body

    # -- Webhooks ---------------------------------------------------------------------------------

    def list_webhooks(self, namespace: str) -> Iterator[Webhook]:
        return self._pages(_webhooks(namespace), {}, Webhook)

    def add_webhook(
        self, namespace: str, url: str, *, adapter: str | None = None, actions: Sequence[str] | None = None
    ) -> NewWebhook:
        """Has the hub send what is recorded in `namespace`, or of its adapter `adapter` alone, to `url`."""
        body = {"url": url, "adapter": adapter, "actions": None if actions is None else list(actions)}
        return NewWebhook.from_json(self._post(_webhooks(namespace), body).json())

    def remove_webhook(self, namespace: str, webhook_id: str) -> None:
        self._delete(f"{_webhooks(namespace)}/{_segment(webhook_id)}")

    def list_deliveries(self, namespace: str, webhook_id: str) -> Iterator[Delivery]:
        """What was sent to a webhook, or waits to be: the newest first."""
        return self._pages(f"{_webhooks(namespace)}/{_segment(webhook_id)}/deliveries", {}, Delivery)

    def replay_delivery(self, namespace: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Has a message sent again, with the same id."""
        path = f"{_webhooks(namespace)}/{_segment(webhook_id)}/deliveries/{_segment(delivery_id)}/replay"
        return Delivery.from_json(self._post(path, {}, is_idempotent=True).json())

    # -- Bases ------------------------------------------------------------------------------------

    def register_base(self, name: str, rows: Sequence[Sequence[object]], *, revision: str | None = None) -> Base:
        """The base with these rows of (name, dtype, shape, sha256), made known to the hub. Twice is the same as once."""
        body = {"name": name, "revision": revision, "tensors": rows}
        return Base.from_json(self._post("/api/v1/bases", body, is_idempotent=True).json())

    def list_bases(self, *, name: str | None = None) -> Iterator[Base]:
        return self._pages("/api/v1/bases", {"name": name}, Base)

    def get_base(self, fingerprint: str) -> BaseDetail:
        return BaseDetail.from_json(self._get(f"/api/v1/bases/{_segment(fingerprint)}").json())

    # -- Adapters and versions --------------------------------------------------------------------

    def push_version(self, ref: AdapterRef, files: Mapping[str, bytes], said: Said | None = None) -> Pushed:
        """The files as a version of `ref`'s adapter. The same files again give the same version."""
        path = f"/api/v1/adapters/{ref.adapter_id}/versions"
        parts = [(name, (name, data, "application/octet-stream")) for name, data in files.items()]
        fields = said.to_parts() if said else {}
        reply = self._send("POST", path, is_idempotent=True, files=parts, data=fields)
        return Pushed(Version.from_json(reply.json()), is_new=reply.status == HTTPStatus.CREATED)

    def search(
        self,
        text: str | None = None,
        *,
        base: str | None = None,
        family: str | None = None,
        owner: str | None = None,
        task: str | None = None,
        license: str | None = None,
        tags: Sequence[str] = (),
        dataset: str | None = None,
        projection: str | None = None,
        min_rank: int | None = None,
        max_rank: int | None = None,
        max_bytes: int | None = None,
        suite: str | None = None,
        min_score: float | None = None,
        sort: str | None = None,
    ) -> Iterator[FoundAdapter]:
        """Adapters that have a word beginning with each word of `text`, and are all of the rest.

        `base` is a name or a fingerprint, `dataset` a name or a digest, and `projection` the digest of the matrices.
        `sort` is updated, downloads, name or, with a `suite`, score or bytes-per-point.
        """
        query: dict[str, Asked] = {
            "search": text,
            "base": base,
            "family": family,
            "owner": owner,
            "task": task,
            "license": license,
            "tag": list(tags),
            "dataset": dataset,
            "projection": projection,
            "min_rank": min_rank,
            "max_rank": max_rank,
            "max_bytes": max_bytes,
            "suite": suite,
            "min_score": min_score,
            "sort": sort,
        }
        return self._pages("/api/v1/adapters", query, FoundAdapter)

    def facets(self, text: str | None = None, **narrowed: Asked) -> Facets:
        """What the adapters that `search` finds with the same arguments can be narrowed down to."""
        query = {**narrowed, "search": text}
        if "tags" in query:
            query["tag"] = query.pop("tags")
        return Facets.from_json(self._get("/api/v1/adapters/facets", query).json())

    def list_adapters(
        self,
        *,
        search: str | None = None,
        base: str | None = None,
        owner: str | None = None,
        task: str | None = None,
        sort: str | None = None,
    ) -> Iterator[Adapter]:
        """`search`, with what every hub has known from the first."""
        query: dict[str, Asked] = {"search": search, "base": base, "owner": owner, "task": task, "sort": sort}
        return self._pages("/api/v1/adapters", query, Adapter)

    def get_adapter(self, ref: AdapterRef) -> AdapterDetail:
        return AdapterDetail.from_json(self._get(f"/api/v1/adapters/{ref.adapter_id}").json())

    def move(self, ref: AdapterRef, to: AdapterRef) -> Adapter:
        """Gives the adapter another name, or another owner; the old name leads to it."""
        return Adapter.from_json(self._post(f"/api/v1/adapters/{ref.adapter_id}/move", {"to": to.adapter_id}).json())

    def set_gate(self, ref: AdapterRef, gated: str | None) -> Adapter:
        """Gives the files of the adapter to everybody (None), to whoever asks ("auto"), or to whom you let in ("manual")."""
        return Adapter.from_json(self._write("PATCH", f"/api/v1/adapters/{ref.adapter_id}", {"gated": gated}).json())

    def get_access(self, ref: AdapterRef) -> Access:
        """Whether the files of a gated adapter are given to you."""
        return Access.from_json(self._get(f"/api/v1/adapters/{ref.adapter_id}/access").json())

    def request_access(self, ref: AdapterRef, *, message: str | None = None) -> AccessRequest:
        """Asks for the files of a gated adapter; asking twice is asking once."""
        path = f"/api/v1/adapters/{ref.adapter_id}/access"
        return AccessRequest.from_json(self._post(path, {"message": message}, is_idempotent=True).json())

    def list_access_requests(self, ref: AdapterRef, *, state: str | None = None) -> Iterator[AccessRequest]:
        """Who has asked for the files of your adapter, or was let in, by name."""
        return self._pages(f"/api/v1/adapters/{ref.adapter_id}/access-requests", {"state": state}, AccessRequest)

    def decide_access(self, ref: AdapterRef, user: str, state: str, *, reason: str | None = None) -> AccessRequest:
        """Lets a user in ("accepted"), refuses them ("rejected"), or lets them wait ("pending")."""
        path = f"/api/v1/adapters/{ref.adapter_id}/access-requests/{_segment(user)}"
        return AccessRequest.from_json(self._write("PUT", path, {"state": state, "reason": reason}).json())

    def set_visibility(self, ref: AdapterRef, visibility: str) -> Adapter:
        """Makes the adapter "private", or "public"."""
        path, body = f"/api/v1/adapters/{ref.adapter_id}", {"visibility": visibility}
        return Adapter.from_json(self._write("PATCH", path, body).json())

    def resolve_version(self, ref: AdapterRef) -> Version:
        """The version that `ref` means now."""
        return Version.from_json(self._get(_version_path(ref), {"digest": ref.digest}).json())

    def download_blob(self, ref: AdapterRef, sha256: str, *, max_bytes: int) -> bytes:
        """What the hub sends as the file `sha256` of `ref`'s adapter: at most `max_bytes`, and not yet verified."""
        path = f"/api/v1/adapters/{ref.adapter_id}/blobs/{_segment(sha256)}"
        return self._send("GET", path, is_idempotent=True, max_bytes=max_bytes).body

    def downloads(self, ref: AdapterRef, *, days: int = 30) -> Downloads:
        """How often `ref`'s adapter was downloaded, ever and on each of the last days; everybody counts once a day."""
        return Downloads.from_json(
            self._get(f"/api/v1/adapters/{ref.adapter_id}/downloads", {"days": str(days)}).json()
        )

    def diff_versions(self, ref: AdapterRef, against: AdapterRef) -> VersionDiff:
        """What changed from `against` to `ref`, as the hub computes it; `vera-hub diff` computes the same here."""
        path = f"{_version_path(ref)}/diff"
        return VersionDiff.from_json(self._get(path, {"against": str(replace(against, host=None))}).json())

    def lineage(self, ref: AdapterRef) -> Lineage:
        """What the version was made from, and what was made from it."""
        return Lineage.from_json(self._get(f"{_version_path(ref)}/lineage").json())

    # -- Taking versions back ---------------------------------------------------------------------

    def yank(self, ref: AdapterRef, reason: str) -> Version:
        """Takes the version back: it is given to who names it exactly, and nothing that moves means it."""
        return Version.from_json(self._write("PUT", f"{_version_path(ref)}/yank", {"reason": reason}).json())

    def unyank(self, ref: AdapterRef) -> Version:
        return Version.from_json(self._undo(f"{_version_path(ref)}/yank").json())

    def deprecate(self, ref: AdapterRef, message: str, *, replacement: str | None = None) -> Version:
        """Says of the version that it is not to be used any more, and what instead (a reference)."""
        body = {"message": message, "replacement": replacement}
        return Version.from_json(self._write("PUT", f"{_version_path(ref)}/deprecation", body).json())

    def undeprecate(self, ref: AdapterRef) -> Version:
        return Version.from_json(self._undo(f"{_version_path(ref)}/deprecation").json())

    def quarantine(self, ref: AdapterRef, reason: str) -> VersionSummary:
        """Keeps the version from being given out (admins)."""
        path = f"{_version_path(ref)}/quarantine"
        return VersionSummary.from_json(self._write("PUT", path, {"reason": reason}).json())

    def release(self, ref: AdapterRef) -> Version:
        """Ends the quarantine (admins)."""
        return Version.from_json(self._undo(f"{_version_path(ref)}/quarantine").json())

    def delete_version(self, ref: AdapterRef, reason: str) -> None:
        """Deletes a version for good, within a day of its push and while nobody else has it; an admin any."""
        self._send("DELETE", _version_path(ref), is_idempotent=True, params={"reason": reason})

    # -- Aliases ----------------------------------------------------------------------------------

    def list_aliases(self, ref: AdapterRef) -> Iterator[Alias]:
        return self._pages(f"/api/v1/adapters/{ref.adapter_id}/aliases", {}, Alias)

    def get_alias(self, ref: AdapterRef, alias: str) -> Alias:
        return Alias.from_json(self._get(_alias_path(ref, alias)).json())

    def alias_history(self, ref: AdapterRef, alias: str) -> Iterator[AliasMove]:
        """Every move of the alias, newest first; also of one that was removed."""
        return self._pages(f"{_alias_path(ref, alias)}/history", {}, AliasMove)

    def alias_at(self, ref: AdapterRef, alias: str, time: datetime) -> AliasMove:
        """The move that said what the alias meant at `time`, in `after`. Raises NotFound when it was not set then."""
        return AliasMove.from_json(self._get(f"{_alias_path(ref, alias)}/at", {"time": time.isoformat()}).json())

    def set_alias(
        self,
        ref: AdapterRef,
        alias: str,
        *,
        expected: str | None = None,
        revision: int | None = None,
        must_be_new: bool = False,
        protected: bool | None = None,
    ) -> Alias:
        """Lets `alias` mean the version that `ref` names exactly.

        Only if it means the version `expected` (`v2`) now, is at that `revision`, or is not set at all, where that
        is said: Conflict, with what it is now in `facts`, otherwise. `protected` None leaves that as it is.
        """
        body = {"version": _selector_of(ref), "expected": expected, "protected": protected}
        conditions = {"If-Match": revision and f'"{revision}"', "If-None-Match": "*" if must_be_new else None}
        headers = {name: value for name, value in conditions.items() if value}
        reply = self._send(
            "PUT",
            _alias_path(ref, alias),
            # A move whose answer got lost is not what it was expected to be any more.
            is_idempotent=expected is None and not headers,
            content=strict_json.dumps(body),
            headers={"Content-Type": "application/json", **headers},
        )
        return Alias.from_json(reply.json())

    def promote(
        self,
        ref: AdapterRef,
        alias: str,
        evaluation_id: str,
        *,
        minimum: str | None = None,
        against_id: str | None = None,
        margin: float = 0.0,
        revision: int | None = None,
        must_be_new: bool = False,
    ) -> Alias:
        """Lets `alias` mean the version that was evaluated, if the hub finds that it passes the gates: Conflict otherwise.

        `revision` and `must_be_new` as in `set_alias`.
        """
        body = {"evaluation": evaluation_id, "minimum": minimum, "against": against_id, "margin": margin}
        conditions = {"If-Match": revision and f'"{revision}"', "If-None-Match": "*" if must_be_new else None}
        headers = {name: value for name, value in conditions.items() if value}
        reply = self._send(
            "POST",
            f"{_alias_path(ref, alias)}/promotions",
            is_idempotent=not headers,
            content=strict_json.dumps(body),
            headers={"Content-Type": "application/json", **headers},
        )
        return Alias.from_json(reply.json())

    def remove_alias(self, ref: AdapterRef, alias: str, *, revision: int | None = None) -> None:
        """Removes the alias; its history stays."""
        headers = {"If-Match": f'"{revision}"'} if revision else {}
        self._send("DELETE", _alias_path(ref, alias), is_idempotent=False, headers=headers)

    # -- Stored projections -----------------------------------------------------------------------

    def has_projection(self, digest: str) -> bool:
        """Whether the hub keeps the stored pair `digest`."""
        try:
            self._send("HEAD", f"/api/v1/projections/{_segment(digest)}", is_idempotent=True)
        except NotFound:
            return False
        return True

    def put_projection(self, digest: str, runs: Callable[[], Iterator[memoryview]], *, size_bytes: int) -> None:
        """Sends the stored pair whose bytes `runs` gives, as often as the request is repeated."""
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size_bytes)}
        path = f"/api/v1/projections/{_segment(digest)}"
        self._send("PUT", path, is_idempotent=True, content=lambda: map(bytes, runs()), headers=headers)

    def download_projection(self, digest: str, into: BinaryIO, *, size_bytes: int) -> None:
        """What the hub sends as the stored pair `digest`, written to `into`: at most `size_bytes`, not yet verified."""
        path = f"/api/v1/projections/{_segment(digest)}"
        self._send("GET", path, is_idempotent=True, max_bytes=size_bytes, into=into)

    # -- Suites, evaluations, leaderboards --------------------------------------------------------

    def list_suites(self) -> Iterator[Suite]:
        return self._pages("/api/v1/suites", {}, Suite)

    def get_suite(self, name: str) -> Suite:
        return Suite.from_json(self._get(f"/api/v1/suites/{_suite_path(name)}").json())

    def request_evaluation(self, ref: str, suite: str) -> Evaluation:
        """The evaluation of a version on a suite: a new one, or the one there is."""
        body = {"ref": ref, "suite": suite}
        return Evaluation.from_json(self._post("/api/v1/evaluations", body, is_idempotent=True).json())

    def get_evaluation(self, evaluation_id: str) -> Evaluation:
        return Evaluation.from_json(self._get(f"/api/v1/evaluations/{_segment(evaluation_id)}").json())

    def cancel_evaluation(self, evaluation_id: str) -> Evaluation:
        """Ends an evaluation that waits or runs; twice is once. Raises Conflict when it has its score already."""
        path = f"/api/v1/evaluations/{_segment(evaluation_id)}/cancel"
        return Evaluation.from_json(self._post(path, {}, is_idempotent=True).json())

    def compare_evaluations(self, evaluation_id: str, against_id: str) -> Comparison:
        path = f"/api/v1/evaluations/{_segment(evaluation_id)}/comparison"
        return Comparison.from_json(self._get(path, {"against": against_id}).json())

    def leaderboard(
        self,
        suite: str,
        *,
        base: str | None = None,
        owner: str | None = None,
        license: str | None = None,
        min_rank: int | None = None,
        max_rank: int | None = None,
        max_bytes: int | None = None,
        limit: int | None = None,
    ) -> Leaderboard:
        """The versions that the suite has scored, best first, as far as they are wanted."""
        wanted = {"base": base, "owner": owner, "license": license}
        sizes = {"min_rank": min_rank, "max_rank": max_rank, "max_bytes": max_bytes, "limit": limit}
        reply = self._get(f"/api/v1/leaderboards/{_suite_path(suite)}", {**wanted, **sizes})
        return Leaderboard.from_json(reply.json())

    # -- Workers ----------------------------------------------------------------------------------

    def register_worker(self, name: str, suites: Sequence[Mapping[str, object]]) -> str:
        """The id of this worker, which offers `suites`."""
        body = {"name": name, "suites": list(suites)}
        return WorkerId.from_json(self._post("/api/v1/worker/register", body, is_idempotent=True).json()).worker_id

    def claim_job(self, worker_id: str, suites: Sequence[str], *, bases: Sequence[str] | None = None) -> Job | None:
        """A job on one of `suites`, leased to this worker, or None when there is nothing to do.

        `bases` are the fingerprints of the bases this worker can load, None for any. A claim whose
        answer is lost is not repeated: its lease runs out by itself.
        """
        body: dict[str, object] = {"worker_id": worker_id, "suites": list(suites)}
        if bases is not None:
            body["bases"] = list(bases)
        reply = self._post("/api/v1/worker/claims", body)
        return None if reply.status == HTTPStatus.NO_CONTENT else Job.from_json(reply.json())

    def heartbeat(self, job: Job) -> None:
        """Raises LeaseLost when the job is no longer this worker's."""
        self._post(f"/api/v1/worker/jobs/{_segment(job.id)}/heartbeat", {"fence": job.fence}, is_idempotent=True)

    def submit_result(
        self,
        job: Job,
        *,
        outcomes: Sequence[float | Sequence[float]],
        outputs: Sequence[str],
        environment: Mapping[str, object],
        seconds: float,
        beside: Mapping[str, Sequence[float | Sequence[float]]] | None = None,
    ) -> None:
        """Hands in the outcome (`docs/evaluation.md`) and the output of every item. `beside` are the outcomes of the
        metrics that stand beside the one that ranks.

        Raises LeaseLost when the job is no longer this worker's, or is done already: it may be by
        an answer of ours that got lost.
        """
        body: dict[str, object] = {
            "fence": job.fence,
            "outcomes": list(outcomes),
            "outputs": list(outputs),
            "environment": dict(environment),
            "seconds": seconds,
        }
        if beside:
            body["beside"] = dict(beside)
        self._post(f"/api/v1/worker/jobs/{_segment(job.id)}/result", body, is_idempotent=True)

    def report_failure(self, job: Job, *, code: str, detail: str, may_retry: bool) -> None:
        body = {"fence": job.fence, "code": code, "detail": detail, "retryable": may_retry}
        self._post(f"/api/v1/worker/jobs/{_segment(job.id)}/failure", body)

    # -- Requests ---------------------------------------------------------------------------------

    def _get(self, path: str, query: Mapping[str, Asked] | None = None) -> _Reply:
        params = {key: value for key, value in (query or {}).items() if value is not None}
        return self._send("GET", path, is_idempotent=True, params=params)

    def _post(self, path: str, body: object, *, is_idempotent: bool = False) -> _Reply:
        headers = {"Content-Type": "application/json"}
        return self._send("POST", path, is_idempotent=is_idempotent, content=strict_json.dumps(body), headers=headers)

    def _write(self, method: str, path: str, body: object) -> _Reply:
        """Sends what may be repeated: PUT and PATCH say what is to be, not what to add."""
        headers = {"Content-Type": "application/json"}
        return self._send(method, path, is_idempotent=True, content=strict_json.dumps(body), headers=headers)

    def _undo(self, path: str) -> _Reply:
        """Takes away what may be gone already."""
        return self._send("DELETE", path, is_idempotent=True)

    def _delete(self, path: str) -> None:
        self._send("DELETE", path, is_idempotent=False)

    def _pages(self, path: str, query: Mapping[str, Asked], kind: type[A]) -> Iterator[A]:
        """Every item of a list, page after page, asked for when it is needed."""
        cursor: str | None = None
        while True:
            page = self._get(path, {**query, "cursor": cursor}).json()
            items = page.get("items") if isinstance(page, dict) else None
            if not isinstance(items, list):
                raise BadAnswer(f"The hub's answer to {path} is not a list. Is it a Vera Hub? Check VERA_HUB_URL.")
            yield from (kind.from_json(item) for item in items)
            following = page.get("next") if isinstance(page, dict) else None
            if not isinstance(following, str) or following == cursor:
                return
            cursor = following

    def _send(
        self,
        method: str,
        path: str,
        *,
        is_idempotent: bool,
        max_bytes: int = MAX_JSON_BYTES,
        into: BinaryIO | None = None,
        **request: Any,
    ) -> _Reply:
        """The answer to a request; a body beyond memory is written to `into`, from its start at every attempt."""
        if self.config.offline:
            raise Offline(f"VERA_HUB_OFFLINE is set, and this needs the hub at {self.config.url}: unset it.")
        read = partial(_read, max_bytes=max_bytes, into=into)
        return self._retries.run(lambda: self._send_once(method, path, is_idempotent, read, request))

    def _send_once(
        self,
        method: str,
        path: str,
        is_idempotent: bool,
        read: Callable[[httpx2.Response], bytes],
        request: Mapping[str, Any],
    ) -> _Reply:
        import httpx2

        headers = {**self._headers(), **request.get("headers", {})}
        arguments = {
            **{name: value for name, value in request.items() if name != "is_moved"},
            "headers": headers,
            "timeout": httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
        }
        if callable(request.get("content")):
            arguments["content"] = request["content"]()
        try:
            with self._http.stream(method, f"{self.config.url}{path}", follow_redirects=False, **arguments) as response:
                body = read(response) if response.is_success else _read(response)
        except httpx2.HTTPError as error:
            raise _unreachable(error, self.config.url, is_idempotent) from error
        reply = _Reply(response.status_code, body, response.headers.get("date"))
        moved_to = _moved_to(response.headers) if response.status_code == HTTPStatus.TEMPORARY_REDIRECT else None
        if moved_to and method in ("GET", "HEAD") and not request.get("is_moved"):
            self._tell_of_move(reply)
            asked = {name: value for name, value in request.items() if name != "params"}  # they are in the address
            return self._send_once(method, moved_to, is_idempotent, read, {**asked, "is_moved": True})
        if not response.is_success:
            raise _failure(reply, response.headers, self.config.url, is_idempotent)
        return reply

    def _tell_of_move(self, reply: _Reply) -> None:
        """Warns once for each name that an adapter had and has no more."""
        said = str(of_problem(HTTPStatus.NOT_FOUND, _problem_in(reply), url=self.config.url))
        if said not in self._told:
            self._told.add(said)
            warnings.warn(said, HubWarning, stacklevel=2)

    def _headers(self) -> dict[str, str]:
        # Identity: what is counted is what is sent, and no answer can unpack into more.
        headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": f"vera-hub/{__version__}",
        }
        if self.config.token:
            headers["Authorization"] = f"Bearer {self.config.token}"
        return headers

    @cached_property
    def _http(self) -> httpx2.Client:
        if self._given_http is not None:
            return self._given_http
        import httpx2

        # This machine is reached without the environment's proxy and, over plain HTTP, without reading
        # certificates, which would take longer than most requests here.
        is_here = is_loopback(self.config.url)
        is_plain = is_here and urlsplit(self.config.url).scheme == "http"
        tls: ssl.SSLContext | bool = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else True
        return httpx2.Client(verify=tls, trust_env=not is_here)


def _read(response: httpx2.Response, *, max_bytes: int = MAX_JSON_BYTES, into: BinaryIO | None = None) -> bytes:
    """The body, which is written to `into` when that is given, and then nothing of it is returned."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise BadAnswer("The hub's answer is compressed, which was not asked for: is a proxy in between?")
    body = BytesIO() if into is None else into
    body.seek(0)
    body.truncate()
    for chunk in response.iter_bytes():
        body.write(chunk)
        if body.tell() > max_bytes:
            raise BadAnswer(f"The hub's answer is longer than the {max_bytes:,} bytes it may have: it was dropped.")
    return body.getvalue() if isinstance(body, BytesIO) else b""


def _failure(reply: _Reply, headers: httpx2.Headers, url: str, is_idempotent: bool) -> HubError:
    if 300 <= reply.status < 400 and _moved_to(headers):
        return of_problem(HTTPStatus.NOT_FOUND, _problem_in(reply), url=url)
    if 300 <= reply.status < 400:
        return Unavailable(
            f"{url} redirects to {headers.get('location', 'another place')}: set VERA_HUB_URL to where the hub really is.",
            code="REDIRECTED",
            status=reply.status,
        )
    error = of_problem(reply.status, _problem_in(reply), url=url)
    if isinstance(error, Unavailable):
        error.may_retry = reply.status in _NOT_DONE or (is_idempotent and reply.status in _MAYBE_DONE)
        error.retry_after_s = _retry_after_s(headers.get("retry-after"))
    return error


def _problem_in(reply: _Reply) -> object:
    try:
        return reply.json()
    except BadAnswer:
        return None


def _moved_to(headers: httpx2.Headers) -> str | None:
    """The address at the same hub where an adapter is now that had another name."""
    location = str(headers.get("location", ""))
    return location if location.startswith("/api/v1/adapters/") else None


def _webhooks(namespace: str) -> str:
    return f"/api/v1/namespaces/{_segment(namespace)}/webhooks"


def _unreachable(error: httpx2.HTTPError, url: str, is_idempotent: bool) -> Unavailable:
    import httpx2

    never_sent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    if never_sent:
        start = "start one with `vera-hub serve`, or set VERA_HUB_URL" if is_loopback(url) else "check VERA_HUB_URL"
        unavailable = Unavailable(f"No hub answers at {url} ({error}): {start}.", code="HUB_UNREACHABLE")
    elif isinstance(error, httpx2.TimeoutException):
        unavailable = Unavailable(
            f"The hub at {url} did not answer within {ANSWER_TIMEOUT_S:.0f} seconds: try again later.",
            code="HUB_TIMEOUT",
        )
    else:
        unavailable = Unavailable(
            f"The connection to the hub at {url} broke ({error}): try again, or look at the log of the hub.",
            code="HUB_UNREACHABLE",
        )
    # After a timeout of a minute the next attempt would only wait another one.
    unavailable.may_retry = never_sent or (is_idempotent and unavailable.code != "HUB_TIMEOUT")
    return unavailable


def _retry_after_s(header: str | None) -> float | None:
    """The pause that a Retry-After header asks for, in seconds: it is a number of them, or a date."""
    if header is None:
        return None
    if header.isascii() and header.isdigit() and len(header) < 9:
        return float(header)
    then = _parse_date(header)
    return None if then is None else max(0.0, (then - datetime.now(UTC)).total_seconds())


def _parse_date(header: str | None) -> datetime | None:
    try:
        parsed = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _segment(text: str) -> str:
    """`text` as one segment of a path, whatever stands in it."""
    if text in ("", ".", ".."):
        raise BadAnswer(f"{text!r} is no id of anything on a hub.")
    return quote(text, safe=":@")


def _selector_of(ref: AdapterRef) -> str:
    return ref.selector or ref.digest or LATEST


def _version_path(ref: AdapterRef) -> str:
    return f"/api/v1/adapters/{ref.adapter_id}/versions/{_segment(_selector_of(ref))}"


def _alias_path(ref: AdapterRef, alias: str) -> str:
    return f"/api/v1/adapters/{ref.adapter_id}/aliases/{_segment(alias)}"


def _suite_path(name: str) -> str:
    family, slash, task = name.partition("/")
    if not slash or "/" in task or {family, task} & {"", ".", ".."}:
        raise RefError(
            f"{name!r} is not a suite: write it as family/task; `vera-hub suites` lists them.", code="SUITE_INVALID"
        )
    return f"{_segment(family)}/{_segment(task)}"
