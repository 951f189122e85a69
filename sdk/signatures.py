"""Whether a worker has signed what a hub says of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdk.models.evaluations import Evaluation
from vera import attestation
from vera.errors import SignatureError
from vera.signing import PublicKey


def check_evaluation(evaluation: Evaluation, envelope: Mapping[str, Any], key: PublicKey) -> dict[str, Any]:
    """The statement that `key` has signed, which says what the hub says of the evaluation. Raises SignatureError, with both
    values, where it says otherwise."""
    statement = attestation.check(envelope, key)
    predicate, subject = statement["predicate"], statement.get("subject")
    scores = predicate.get("scores")
    signed = {
        "evaluation": predicate.get("job"),
        "version": _digest(subject),
        "spec": predicate.get("spec_digest"),
        "score": _rounded(scores.get(evaluation.metric) if isinstance(scores, dict) else None),
        "environment": predicate.get("environment"),
    }
    said = {
        "evaluation": evaluation.id,
        "version": evaluation.version_digest,
        "spec": evaluation.spec_digest,
        "score": _rounded(evaluation.score),
        "environment": dict(evaluation.environment or {}),
    }
    for what, value in said.items():
        if value != signed[what]:
            raise SignatureError(
                f"The {what} of the evaluation {evaluation.id} is {value!r} at the hub, and its worker has signed "
                f"{signed[what]!r}: it was changed since, as `vera-hub admin rescore` changes a score.",
                code="STATEMENT_MISMATCH",
                field=what,
            )
    return statement


def _digest(subject: object) -> str | None:
    """Of `vera.json`, which is the version's."""
    try:
        return f"sha256:{subject[0]['digest']['sha256']}"  # type: ignore[index]  # whatever it is, it is not that
    except (KeyError, IndexError, TypeError):
        return None


def _rounded(score: object) -> float | None:
    return round(score, 9) if isinstance(score, int | float) else None
