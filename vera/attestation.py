"""What a worker signs of an evaluation: an in-toto statement (in-toto.io/Statement/v1) about the files of one version.

    subject     vera.json and the weights of the version, by their SHA-256
    predicate   the job, the spec with all that decides a score, the scores, the digests of outcomes and outputs, the environment

Worker and hub make the statement of the same facts independently; the hub keeps a result when they are equal.

The digests are salted: what few items were worth or answered could be found by trying, and the right answers by that. Who
has the salt may see the items. Statements of older releases have no `salted`, and digests of the lists alone.
"""

from __future__ import annotations

import hashlib
import math
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vera import canonical_json
from vera.errors import SignatureError
from vera.manifest import MANIFEST_FILE, WEIGHTS_FILE
from vera.signing import PublicKey, SigningKey, opened, sealed

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "vera-hub:evaluation/v1"

# Another machine may sum in another order.
_SAME = 1e-9
_SHOWN = 120


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What a result says. `scores` has the metric that ranks and those beside it; `outcomes` likewise. `spec` is that of
    the job, and names the suite by its digest and the base by its fingerprint."""

    job: str
    fence: int
    ref: str
    version_digest: str
    weights_digest: str
    spec: Mapping[str, Any]
    spec_digest: str
    outcomes: Mapping[str, Sequence[Any]]
    scores: Mapping[str, float]
    outputs: Sequence[str]
    environment: Mapping[str, Any]
    seconds: float
    # As `new_salt` makes it; None of results of older releases.
    salt: str | None = None

    def statement(self) -> dict[str, Any]:
        predicate = {
            "job": self.job,
            "fence": self.fence,
            "ref": self.ref,
            "spec": dict(self.spec),
            "spec_digest": self.spec_digest,
            "scores": {metric: float(score) for metric, score in self.scores.items()},
            "items": len(self.outputs),
            "outcomes": {metric: digest_of(each, self.salt) for metric, each in self.outcomes.items()},
            "outputs": digest_of(self.outputs, self.salt),
            "environment": dict(self.environment),
            "seconds": float(self.seconds),
            **({"salted": True} if self.salt is not None else {}),
        }
        subject = (MANIFEST_FILE, self.version_digest), (WEIGHTS_FILE, self.weights_digest)
        return {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}} for name, digest in subject
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }


def signed(evaluated: Evaluated, key: SigningKey) -> dict[str, Any]:
    """The envelope of the statement of `evaluated`."""
    return sealed(canonical_json.dumps(evaluated.statement()), PAYLOAD_TYPE, key)


def check(envelope: Mapping[str, Any], key: PublicKey) -> dict[str, Any]:
    """The statement that `key` has signed. Raises SignatureError, also for a statement about something else."""
    statement = opened(envelope, PAYLOAD_TYPE, key)
    kind = statement.get("_type"), statement.get("predicateType")
    if kind != (STATEMENT_TYPE, PREDICATE_TYPE) or not isinstance(statement.get("predicate"), dict):
        raise SignatureError(
            f"The statement that is signed is a {str(kind[1])[:_SHOWN]!r}, and not a {PREDICATE_TYPE!r}.",
            code="STATEMENT_INVALID",
        )
    return statement


def check_says(statement: Mapping[str, Any], evaluated: Evaluated) -> None:
    """Raises SignatureError, with both values, when `statement` says anything else than `evaluated` is."""
    expected = evaluated.statement()
    for path, ours, theirs in _differences(expected, statement):
        raise SignatureError(
            f"What the worker has signed is not the result that came with it: {path} is {_short(ours)}, and signed is "
            f"{_short(theirs)}.",
            code="STATEMENT_MISMATCH",
            field=path,
        )


def check_items(
    statement: Mapping[str, Any], *, outcomes: Mapping[str, Sequence[Any]], outputs: Sequence[str], salt: str | None
) -> None:
    """Raises SignatureError, with both digests, when these are not the items that `statement` is about."""
    predicate = statement["predicate"]
    ours = {metric: digest_of(each, salt) for metric, each in outcomes.items()}
    for path, given, signed_ in [
        *_differences(ours, predicate.get("outcomes"), "outcomes"),
        *_differences(digest_of(outputs, salt), predicate.get("outputs"), "outputs"),
    ]:
        raise SignatureError(
            f"What the items are said to be is not what the worker has signed: the digest of {path} is {_short(given)}, and "
            f"signed is {_short(signed_)}. Do not believe them.",
            code="STATEMENT_MISMATCH",
            field=path,
        )


def new_salt() -> str:
    """For the digests of one result: nobody finds it by trying."""
    return secrets.token_hex(32)


def digest_of(value: Sequence[Any], salt: str | None = None) -> str:
    """`sha256:…` of the RFC 8785 form of a list, or with a salt of `{"salt": salt, "values": list}`."""
    said = list(value) if salt is None else {"salt": salt, "values": list(value)}
    return f"sha256:{hashlib.sha256(canonical_json.dumps(said)).hexdigest()}"


def _differences(ours: object, theirs: object, path: str = "") -> list[tuple[str, object, object]]:
    """Where two JSON values differ. Numbers that differ by rounding are the same."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        names = sorted(ours.keys() | theirs.keys())
        inside = (_differences(ours.get(name), theirs.get(name), f"{path}.{name}".lstrip(".")) for name in names)
        return [difference for some in inside for difference in some]
    is_same = _is_close(ours, theirs) if _is_number(ours) and _is_number(theirs) else ours == theirs
    return [] if is_same else [(path, ours, theirs)]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_close(ours: Any, theirs: Any) -> bool:
    return math.isclose(ours, theirs, rel_tol=_SAME, abs_tol=_SAME)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
