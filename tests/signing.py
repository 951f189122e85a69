"""A worker's key for tests, and results that are signed as a worker signs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hub.scoring import metrics
from vera import attestation, possession
from vera.attestation import Evaluated
from vera.signing import SigningKey

KEY = SigningKey(bytes(range(32)))
PUBLIC_KEY = str(KEY.public)


def shown(name: str, secret: str, *, key: SigningKey = KEY, hub: str = "127.0.0.1") -> dict[str, Any]:
    """The public key of a worker that comes with this code or token (or header of it), and the proof that it is its own."""
    proof = possession.proof(key, hub=hub, name=name, secret=secret.removeprefix("Bearer "))
    return {"public_key": str(key.public), "proof": proof}


def signed(
    job: Mapping[str, Any],
    outcomes: Sequence[Any],
    outputs: Sequence[str],
    *,
    environment: Mapping[str, Any],
    seconds: float,
    beside: Mapping[str, Sequence[Any]] | None = None,
    metric: str = "accuracy",
    key: SigningKey = KEY,
    salt: str | None = None,
    otherwise: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The envelope of this result of a job as the hub describes it. `otherwise` says something else than is so."""
    every = {metric: outcomes, **(beside or {})}
    facts = {name: job[name] for name in ("fence", "ref", "version_digest", "weights_digest", "spec", "spec_digest")}
    facts |= {
        "job": job["id"],
        "outcomes": every,
        "scores": {name: _score(name, each) for name, each in every.items()},
        "outputs": outputs,
        "environment": environment,
        "seconds": seconds,
        "salt": salt,
    }
    return attestation.signed(Evaluated(**{**facts, **(otherwise or {})}), key)


def _score(metric: str, outcomes: Sequence[Any]) -> float:
    """Of what gives none, a hub looks at no signature."""
    try:
        return metrics.score(metric, outcomes)
    except (ValueError, KeyError):
        return 0.0
