"""A CI job pushes without a secret, and nobody else in its name."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from pydantic import ValidationError

from hub.auth import identities
from hub.auth.identities import Issuers
from hub.errors import Unauthorized, Unavailable
from hub.settings import Settings
from tests.builders import make_archive
from tests.hub.harness import Hub, code_of
from tests.hub.issuer import AUDIENCE, ISSUER, Issuer

pytestmark = pytest.mark.one_process

PUBLISHER = {
    "adapter": None,
    "issuer": ISSUER,
    "repository": "octo/lab",
    "repository_id": "123",
    "owner_id": "45",
    "workflow": "train.yml",
    "environment": None,
}


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture
def trusting(hub: Hub, issuer: Issuer) -> Hub:
    """A hub that trusts the issuer, with acme, whose maintainer is max."""
    parts = hub.app.state.services
    settings = parts.settings.model_copy(update={"public_url": AUDIENCE})
    hub.app.state.services = replace(parts, settings=settings, issuers=Issuers({ISSUER: "github"}, fetch=issuer.fetch))
    hub.found("acme", max="maintainer", pia="publisher")
    return hub


def trust(hub: Hub, namespace: str = "acme", user: str = "max", **changes: Any) -> dict[str, Any]:
    answer = hub.post(f"/namespaces/{namespace}/publishers", {**PUBLISHER, **changes}, hub.headers(user))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def show(hub: Hub, identity: str, **more: str) -> Any:
    return hub.post("/oidc/token", {"token": identity, **more}, {})


def test_a_job_pushes_and_the_version_says_so(trusting: Hub, issuer: Issuer) -> None:
    trusting.register_base()
    trust(trusting)

    minted = show(trusting, issuer.identity())

    assert (minted.status_code, minted.json()["account"], minted.json()["restricted_to"]) == (201, "acme", ["acme"])
    assert minted.json()["token"].startswith("vhc_")
    pushed = trusting.push(make_archive(), user="acme", headers={"Authorization": f"Bearer {minted.json()['token']}"})
    assert pushed.status_code == 201
    assert pushed.json()["provenance"] == {
        "issuer": ISSUER,
        "repository": "octo/lab",
        "repository_id": "123",
        "workflow": "train.yml",
        "sha": "a" * 40,
    }
    assert "octo/lab" in trusting.client.get("/acme/tiny").text
    by_hand = trusting.push(make_archive(seed=9), user="acme", headers=trusting.headers("max"))
    assert by_hand.json()["provenance"] is None


def test_a_publisher_of_one_adapter_reaches_no_other(trusting: Hub, issuer: Issuer) -> None:
    trusting.register_base()
    trust(trusting, adapter="topics")
    headers = {"Authorization": f"Bearer {show(trusting, issuer.identity()).json()['token']}"}

    assert trusting.push(make_archive(), "topics", user="acme", headers=headers).status_code == 201
    assert code_of(trusting.push(make_archive(), "other", user="acme", headers=headers)) == (403, "TOKEN_RESTRICTED")
    assert code_of(trusting.post("/tokens", {"name": "more"}, headers)) == (403, "SCOPE_INSUFFICIENT")
    assert trusting.client.delete("/api/v1/tokens/current", headers=headers).status_code == 204


def test_an_identity_is_shown_once(trusting: Hub, issuer: Issuer) -> None:
    trust(trusting)
    identity = issuer.identity()
    assert show(trusting, identity).status_code == 201
    assert code_of(show(trusting, identity)) == (409, "OIDC_TOKEN_REUSED")


@pytest.mark.parametrize(
    "changes",
    [
        {"repository_id": "124"},  # a repository that got the name
        {"repository_owner_id": "46"},  # an owner who got the name
        {"job_workflow_ref": "octo/lab/.github/workflows/other.yml@refs/heads/main"},
    ],
)
def test_a_job_that_nobody_named_gets_nothing(trusting: Hub, issuer: Issuer, changes: dict[str, str]) -> None:
    trust(trusting)
    assert code_of(show(trusting, issuer.identity(**changes))) == (403, "OIDC_NO_PUBLISHER")


def test_an_environment_that_was_named_is_needed(trusting: Hub, issuer: Issuer) -> None:
    trust(trusting, environment="release")
    assert code_of(show(trusting, issuer.identity())) == (403, "OIDC_NO_PUBLISHER")
    assert show(trusting, issuer.identity(environment="release")).status_code == 201


def test_two_namespaces_that_trust_one_job_are_told_apart(trusting: Hub, issuer: Issuer) -> None:
    trust(trusting)
    trust(trusting, "max")
    assert code_of(show(trusting, issuer.identity())) == (422, "OIDC_AMBIGUOUS")
    assert show(trusting, issuer.identity(), namespace="max").json()["account"] == "max"


def unsigned(issuer: Issuer) -> str:
    _, claims, _ = issuer.identity().split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "one"}).encode()).decode().rstrip("=")
    return f"{header}.{claims}."


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.test"},
        {"aud": "https://other.test"},
        {"aud": [AUDIENCE, "https://other.test"]},
        {"exp": NOW - 60},
        {"nbf": NOW + 3600},
        {"exp": None},
        {"jti": None},
        {"sha": None},
        {"job_workflow_ref": "evil/lab/.github/workflows/train.yml@refs/heads/main"},
        {"job_workflow_ref": "evil-octo/lab/.github/workflows/train.yml@refs/heads/main"},
        {"event_name": "pull_request_target"},
        {"event_name": "workflow_run"},
        {"kid": "another"},
        {"algorithm": "HS256", "key": "a secret that is long enough for HS256"},
    ],
    ids=", ".join,
)
def test_an_identity_that_proves_nothing_is_refused(trusting: Hub, issuer: Issuer, changes: dict[str, Any]) -> None:
    trust(trusting)
    assert code_of(show(trusting, issuer.identity(**changes))) == (401, "OIDC_TOKEN_INVALID")


def test_an_identity_without_a_signature_or_with_anothers_is_refused(trusting: Hub, issuer: Issuer) -> None:
    trust(trusting)
    for identity in (unsigned(issuer), Issuer().identity()):
        assert code_of(show(trusting, identity)) == (401, "OIDC_TOKEN_INVALID")
    for junk in ("", "a.b.c", "x" * 19_000):
        assert code_of(show(trusting, junk)) == (422, "OIDC_PAYLOAD_INVALID")


def test_keys_are_fetched_when_they_are_new_and_once_a_minute_at_most(issuer: Issuer) -> None:
    now, fresh = [0.0], Issuer()
    issuers = Issuers({ISSUER: "github"}, fetch=fresh.fetch, clock=lambda: now[0])
    for _ in range(2):
        issuers.verify(fresh.identity(), AUDIENCE)
    assert len(fresh.asked) == 2  # where the keys are, and the keys

    fresh.kid = "two"
    for _ in range(3):
        with pytest.raises(Exception, match="does not have"):
            issuers.verify(fresh.identity(), AUDIENCE)
    now[0] = 61.0
    assert issuers.verify(fresh.identity(), AUDIENCE).repository_id == "123"
    assert len(fresh.asked) == 4


def test_a_gitlab_job_is_read_by_its_own_words() -> None:
    fresh = Issuer()
    identity = fresh.identity(
        repository=None, project_path="group/lab", project_id="7", namespace_id="8",
        ci_config_ref_uri="issuer.test/group/lab//.gitlab-ci.yml@refs/heads/main", environment="prod",
    )  # fmt: skip
    issuers = Issuers({ISSUER: "gitlab"}, fetch=fresh.fetch)
    read = issuers.verify(identity, AUDIENCE)
    assert (read.repository_id, read.owner_id, read.workflow, read.environment) == ("7", "8", ".gitlab-ci.yml", "prod")


@pytest.mark.parametrize(
    "place", ["issuer.test/evil/group/lab", "issuer.test/evil-group/lab", "elsewhere.test/group/lab"]
)
def test_a_gitlab_pipeline_of_another_project_is_not_this_ones(place: str) -> None:
    fresh = Issuer()
    identity = fresh.identity(
        repository=None, project_path="group/lab", project_id="7", namespace_id="8",
        ci_config_ref_uri=f"{place}//.gitlab-ci.yml@refs/heads/main",
    )  # fmt: skip

    with pytest.raises(Unauthorized, match="do not fit"):
        Issuers({ISSUER: "gitlab"}, fetch=fresh.fetch).verify(identity, AUDIENCE)


def test_publishers_are_the_business_of_maintainers_who_have_signed_in(trusting: Hub) -> None:
    path = "/namespaces/acme/publishers"
    made = trust(trusting)
    assert (made["target"], made["created_by"]) == ("acme", "max")
    assert code_of(trusting.post(path, PUBLISHER, trusting.headers("pia"))) == (403, "FORBIDDEN")
    token = trusting.post("/tokens", {"name": "x", "scopes": ["repo:admin", "repo:push"]}, trusting.headers("max"))
    program = {"Authorization": f"Bearer {token.json()['token']}"}
    assert code_of(trusting.post(path, PUBLISHER, program)) == (403, "SCOPE_INSUFFICIENT")
    assert [each["id"] for each in trusting.get(path, headers=trusting.headers("max")).json()["items"]] == [made["id"]]
    gone = f"/api/v1{path}/{made['id']}"
    assert trusting.client.delete(gone, headers=trusting.headers("max")).status_code == 204
    assert code_of(trusting.client.delete(gone, headers=trusting.headers("max"))) == (404, "PUBLISHER_UNKNOWN")


def test_a_hub_without_an_address_takes_no_identities(sqlite_hub: Hub) -> None:
    assert code_of(sqlite_hub.get("/oidc")) == (404, "OIDC_DISABLED")
    assert code_of(show(sqlite_hub, "x")) == (404, "OIDC_DISABLED")


def test_an_issuer_is_asked_over_https() -> None:
    with pytest.raises(ValidationError, match="not https"):
        Settings(oidc_issuers={"http://issuer.test": "github"})


@pytest.fixture
def redirecting() -> Iterator[str]:
    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_issuer_that_sends_us_elsewhere_is_not_followed(redirecting: str) -> None:
    with pytest.raises(Unavailable) as refused:
        identities._fetch_json(redirecting)
    assert "302" in str(refused.value.__cause__)
