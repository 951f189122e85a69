"""Whether a worker has signed what a hub says of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdk.models.evaluations import Evaluation
from vera import attestation
from vera.errors import SignatureError
from vera.signing import PublicKey


@dataclass(frozen=True)
class Signed:
    """What a worker has signed of an evaluation: all that the hub says of it but, where that is computed again since, the score."""

    statement: dict[str, Any]
    metric: str
    score: float | None
    signed_score: float | None

    @property
    def is_rescored(self) -> bool:
        return _rounded(self.score) != _rounded(self.signed_score)


def check_evaluation(evaluation: Evaluation, envelope: Mapping[str, Any], key: PublicKey) -> Signed:
    """The statement that `key` has signed, which says what the hub says of the evaluation. Its score may be another one than the
    hub's: see `Signed.is_rescored`. Raises SignatureError, with both values, where it says anything else."""
    statement = attestation.check(envelope, key)
    predicate, subject = statement["predicate"], statement.get("subject")
    scores = predicate.get("scores")
    signed_score = scores.get(evaluation.metric) if isinstance(scores, dict) else None
    signed = {
        "evaluation": predicate.get("job"),
        "version": _digest(subject),
        "spec": predicate.get("spec_digest"),
        "environment": predicate.get("environment"),
    }
    said = {
        "evaluation": evaluation.id,
        "version": evaluation.version_digest,
        "spec": evaluation.spec_digest,
        "environment": dict(evaluation.environment or {}),
    }
    for what, value in said.items():
        if value != signed[what]:
            raise SignatureError(
                f"The {what} of the evaluation {evaluation.id} is {value!r} at the hub, and its worker has signed "
                f"{signed[what]!r}: do not believe it.",
                code="STATEMENT_MISMATCH",
                field=what,
            )
    return Signed(statement, evaluation.metric, evaluation.score, signed_score)


def _digest(subject: object) -> str | None:
    """Of `vera.json`, which is the version's."""
    try:
        return f"sha256:{subject[0]['digest']['sha256']}"  # type: ignore[index]  # whatever it is, it is not that
    except (KeyError, IndexError, TypeError):
        return None


def _rounded(score: object) -> float | None:
    return round(score, 9) if isinstance(score, int | float) else None
