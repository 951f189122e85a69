"""Identities of CI jobs: JSON web tokens of an issuer that this hub trusts, verified and read (OpenID Connect).

The issuer is compared before anything is fetched, its keys come over HTTPS from its own host, and only
signatures with a public key count: `none` and HMAC, with which a stranger could sign, are never tried.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from hub.errors import Invalid, Unauthorized, Unavailable

# jwt brings cryptography, nine megabytes that a hub without trusted publishers never needs: it is imported where it is used.
if TYPE_CHECKING:
    import jwt

Flavour = Literal["github", "gitlab"]
ALGORITHMS = ("RS256", "ES256")
LEEWAY_S = 30
_REQUIRED = ("iss", "aud", "exp", "iat", "jti")
_TIMEOUT_S = 5
_MAX_BYTES = 256 * 1024
_MAX_TOKEN = 16 * 1024
# An unknown key may be a new one; a stranger who invents keys makes us ask this often and no more.
_ASK_AGAIN_S = 60
# Events that run with the rights of the repository on the word of a stranger's pull request.
_UNTRUSTED_EVENTS = {"pull_request_target", "workflow_run"}


@dataclass(frozen=True)
class Identity:
    """What an issuer says of a job. Numbers name repositories, since their names can be given to others."""

    issuer: str
    repository: str
    repository_id: str
    owner_id: str
    workflow: str
    environment: str | None
    sha: str
    jti: str
    expires_at: datetime

    @property
    def provenance(self) -> dict[str, str]:
        """What is kept with a version that the job pushes."""
        return {
            "issuer": self.issuer,
            "repository": self.repository,
            "repository_id": self.repository_id,
            "workflow": self.workflow,
            "sha": self.sha,
        }


class Issuers:
    """The trusted issuers, and their keys as they were last fetched."""

    def __init__(
        self,
        flavours: Mapping[str, Flavour],
        *,
        fetch: Callable[[str], Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flavours = dict(flavours)
        self._fetch, self._clock = fetch or _fetch_json, clock
        self._keys: dict[str, dict[str, jwt.PyJWK]] = {}
        self._asked: dict[str, float] = {}
        self._lock = Lock()

    def verify(self, token: str, audience: str) -> Identity:
        """The identity in `token`, which was made for `audience`. Reads the network for keys that are new.

        Raises Invalid for what is no token, Unauthorized for one that proves nothing, Unavailable when the
        issuer does not answer.
        """
        import jwt

        header, claimed = _peek(token)
        issuer = claimed.get("iss")
        if not isinstance(issuer, str) or issuer not in self._flavours:
            raise _refused(f"its issuer is {str(issuer)[:80]!r}, which this hub does not trust")
        if header.get("alg") not in ALGORITHMS:
            raise _refused(
                f"it is signed with {str(header.get('alg'))[:20]!r}, and only {' or '.join(ALGORITHMS)} count"
            )
        key = self._key(issuer, str(header.get("kid", "")))
        try:
            claims = jwt.decode(
                token,
                key.key,
                algorithms=list(ALGORITHMS),
                audience=audience,
                issuer=issuer,
                leeway=LEEWAY_S,
                options={"require": list(_REQUIRED), "strict_aud": True},
            )
        except jwt.PyJWTError as error:
            raise _refused(str(error)) from error
        return _read(claims, issuer, self._flavours[issuer])

    def _key(self, issuer: str, kid: str) -> jwt.PyJWK:
        with self._lock:
            known = self._keys.get(issuer, {})
            last = self._asked.get(issuer)
            if kid not in known and (last is None or self._clock() - last >= _ASK_AGAIN_S):
                self._asked[issuer] = self._clock()
                known = self._keys[issuer] = self._fetch_keys(issuer)
        if kid not in known:
            raise _refused("it is signed with a key that its issuer does not have")
        return known[kid]

    def _fetch_keys(self, issuer: str) -> dict[str, jwt.PyJWK]:
        import jwt

        location = self._fetch(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
        address = location.get("jwks_uri") if isinstance(location, dict) else None
        if not isinstance(address, str) or urlsplit(address)[:2] != urlsplit(issuer)[:2]:
            raise _silent(issuer)
        try:
            keys = jwt.PyJWKSet.from_dict(self._fetch(address)).keys
        except (jwt.PyJWTError, AttributeError, TypeError) as error:
            raise _silent(issuer) from error
        return {key.key_id: key for key in keys if key.key_id}


def _peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    import jwt

    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError("it is too long")
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise Invalid(
            f"That is no identity of a job: {error}. Send the token that the CI system gives for this hub.",
            code="OIDC_PAYLOAD_INVALID",
        ) from error
    return header, claims


def _read(claims: Mapping[str, Any], issuer: str, flavour: Flavour) -> Identity:
    event = str(claims.get("event_name") or claims.get("pipeline_source") or "")
    if event in _UNTRUSTED_EVENTS:
        raise _refused(f"the job runs on {event}, which strangers can start")
    github = ("repository", "repository_id", "repository_owner_id", "job_workflow_ref", "/.github/workflows/")
    gitlab = ("project_path", "project_id", "namespace_id", "ci_config_ref_uri", "//")
    name, number, owner, file, folder = github if flavour == "github" else gitlab
    values = {key: str(claims.get(key) or "")[:300] for key in (name, number, owner, file, "sha", "jti")}
    before, _, after = values[file].partition("@")[0].partition(folder)
    # GitHub's begins with the repository, GitLab's with the host, which may be under a path.
    is_its_own = before == values[name] or (flavour == "gitlab" and before in _places_of(issuer, values[name]))
    if not all(values.values()) or not is_its_own or not after:
        raise _refused(f"it lacks one of {name}, {number}, {owner}, {file} and sha, or they do not fit")
    environment = claims.get("environment")
    return Identity(
        issuer=issuer,
        repository=values[name],
        repository_id=values[number],
        owner_id=values[owner],
        workflow=after,
        environment=environment if isinstance(environment, str) else None,
        sha=values["sha"],
        jti=values["jti"],
        expires_at=datetime.fromtimestamp(int(claims["exp"]), UTC),
    )


def _places_of(issuer: str, project: str) -> tuple[str, ...]:
    """How a GitLab at `issuer` may call a project: by its host, with the port or without."""
    parts = urlsplit(issuer)
    return tuple(f"{host}{parts.path.rstrip('/')}/{project}" for host in (parts.netloc, parts.hostname or ""))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def _fetch_json(url: str) -> Any:
    opener = urllib.request.build_opener(_NoRedirects)
    try:
        with opener.open(url, timeout=_TIMEOUT_S) as answer:
            return json.loads(answer.read(_MAX_BYTES))
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise _silent(url) from error
    except (OSError, ValueError) as error:
        raise _silent(url) from error


def _silent(issuer: str) -> Unavailable:
    return Unavailable(f"{issuer[:100]} does not say what its keys are: try again later.", code="OIDC_ISSUER_SILENT")


def _refused(why: str) -> Unauthorized:
    return Unauthorized(f"This identity of a job proves nothing here: {why[:200]}.", code="OIDC_TOKEN_INVALID")
