"""Signing in, tokens, users, and identities of CI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sdk.client.addresses import segment
from sdk.client.wire import ANSWER_TIMEOUT_S, Wire
from sdk.errors import BadAnswer, Unavailable
from vera import strict_json

if TYPE_CHECKING:
    from sdk.models.accounts import (
        Code,
        DeviceCode,
        DeviceToken,
        JobToken,
        NewToken,
        Oidc,
        Publisher,
        SignedIn,
        Token,
        User,
    )

_DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"


class Accounts(Wire):
    """Signing in, tokens, users, and identities of CI."""

    def use_code(self, *, user: str | None = None, password: str | None = None) -> SignedIn:
        """The login that this Hub's token, a sign-in code, is good for once. `password` becomes the user's."""
        from sdk.models.accounts import SignedIn

        body = {"user": user, "password": password}
        return SignedIn.from_json(self._post_unrepeated("/api/v1/login", body).json())

    def sign_in(self, user: str, password: str) -> SignedIn:
        from sdk.models.accounts import SignedIn

        body = {"user": user, "password": password}
        return SignedIn.from_json(self._post_unrepeated("/api/v1/login/password", body).json())

    def begin_device_login(self, name: str) -> DeviceCode:
        """Asks to be let in as the program `name`: somebody answers that in a browser, by the code it gives."""
        from sdk.models.accounts import DeviceCode

        return DeviceCode.from_json(
            self._post_unrepeated("/oauth/device", {"client_id": "vera-hub", "device_name": name}).json()
        )

    def collect_device_login(self, device_code: str) -> DeviceToken:
        """The token, once somebody has let the program in. Raises Refused, with the code AUTHORIZATION_PENDING until
        somebody has answered, and for good when it was refused or took too long."""
        from sdk.models.accounts import DeviceToken

        body = {"client_id": "vera-hub", "grant_type": _DEVICE_CODE, "device_code": device_code}
        return DeviceToken.from_json(self._post_unrepeated("/oauth/token", body).json())

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
        from sdk.models.accounts import Token

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
        from sdk.models.accounts import NewToken

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
        self._delete(f"/api/v1/tokens/{segment(token_id)}")

    def oidc(self) -> Oidc:
        """Raises NotFound when the hub takes no identities of CI jobs."""
        from sdk.models.accounts import Oidc

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
        from sdk.models.accounts import JobToken

        body = {"token": identity, "namespace": namespace}
        return JobToken.from_json(self._post_unrepeated("/api/v1/oidc/token", body).json())

    def list_publishers(self, namespace: str) -> Iterator[Publisher]:
        from sdk.models.accounts import Publisher

        return self._pages(f"/api/v1/namespaces/{segment(namespace)}/publishers", {}, Publisher)

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
        from sdk.models.accounts import Publisher

        body = {
            "adapter": adapter,
            "issuer": issuer,
            "repository": repository,
            "repository_id": repository_id,
            "owner_id": owner_id,
            "workflow": workflow,
            "environment": environment,
        }
        return Publisher.from_json(self._post(f"/api/v1/namespaces/{segment(namespace)}/publishers", body).json())

    def remove_publisher(self, namespace: str, publisher_id: str) -> None:
        self._delete(f"/api/v1/namespaces/{segment(namespace)}/publishers/{segment(publisher_id)}")

    def list_users(self) -> Iterator[User]:
        from sdk.models.accounts import User

        return self._pages("/api/v1/users", {}, User)

    def create_user(self, name: str, *, is_admin: bool = False) -> Code:
        from sdk.models.accounts import Code

        return Code.from_json(self._post("/api/v1/users", {"name": name, "is_admin": is_admin}).json())

    def create_code(self, user: str) -> Code:
        """Another sign-in code, for a user who has lost everything."""
        from sdk.models.accounts import Code

        return Code.from_json(self._post(f"/api/v1/users/{segment(user)}/codes", {}).json())

    def set_admin(self, user: str, *, is_admin: bool) -> User:
        from sdk.models.accounts import User

        return User.from_json(self._write("PATCH", f"/api/v1/users/{segment(user)}", {"is_admin": is_admin}).json())

    def delete_user(self, user: str) -> None:
        self._delete(f"/api/v1/users/{segment(user)}")
