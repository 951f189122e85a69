"""An issuer of identities for CI jobs, with keys of its own."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

ISSUER = "https://issuer.test"
AUDIENCE = "https://hub.test"


@dataclass
class Issuer:
    """`documents` are what it serves, by URL; `asked` the URLs that were fetched."""

    kid: str = "one"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    asked: list[str] = field(default_factory=list)

    def fetch(self, url: str) -> Any:
        self.asked.append(url)
        if url.endswith("/.well-known/openid-configuration"):
            return {"jwks_uri": f"{ISSUER}/keys"}
        assert url == f"{ISSUER}/keys"
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": self.kid, "alg": "RS256", "use": "sig"}]}

    def identity(self, *, algorithm: str = "RS256", key: Any = None, kid: str | None = None, **changes: Any) -> str:
        """A job of octo/lab on GitHub, changed as asked; None leaves a claim out."""
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "jti": uuid.uuid4().hex,
            "repository": "octo/lab",
            "repository_id": "123",
            "repository_owner_id": "45",
            "job_workflow_ref": "octo/lab/.github/workflows/train.yml@refs/heads/main",
            "sha": "a" * 40,
            "event_name": "push",
            **changes,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(kept, key or self.key, algorithm=algorithm, headers={"kid": kid or self.kid})
