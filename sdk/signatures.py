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
    """What a worker has signed of an evaluation. `scores` are those of the hub by their metrics, the one that ranks and those
    beside it, and `signed_scores` the worker's: others where the hub has computed them again since."""

    statement: dict[str, Any]
    scores: Mapping[str, float | None]
    signed_scores: Mapping[str, float | None]

    @property
    def rescored(self) -> tuple[str, ...]:
        """The metrics whose score is not the one that is signed."""
        return tuple(
            metric for metric, score in self.scores.items() if _rounded(score) != _rounded(self.signed_scores[metric])
        )

    @property
    def is_rescored(self) -> bool:
        return bool(self.rescored)


def check_evaluation(evaluation: Evaluation, envelope: Mapping[str, Any], key: PublicKey) -> Signed:
    """The statement that `key` has signed, which says of the evaluation's number, version, suite, spec, items, environment and
    seconds what the hub says. Its scores may be others than the hub's: see `Signed.rescored`. Raises SignatureError, with both
    values, where it says anything else.

    Not signed are the intervals, which the hub computes of the outcomes, and the name that an adapter was moved to since:
    what is signed is about the version's digest.
    """
    statement = attestation.check(envelope, key)
    predicate, subject = statement["predicate"], statement.get("subject")
    spec, seconds = predicate.get("spec"), evaluation.seconds
    signed = {
        "evaluation": predicate.get("job"),
        "version": _digest(subject),
        "suite": spec.get("suite") if isinstance(spec, dict) else None,
        "spec": predicate.get("spec_digest"),
        "items": predicate.get("items"),
        "environment": predicate.get("environment"),
        "seconds": _rounded(predicate.get("seconds")) if seconds is not None else None,
    }
    said = {
        "evaluation": evaluation.id,
        "version": evaluation.version_digest,
        "suite": evaluation.suite,
        "spec": evaluation.spec_digest,
        "items": evaluation.items,
        "environment": dict(evaluation.environment or {}),
        "seconds": _rounded(seconds),
    }
    for what, value in said.items():
        if value != signed[what]:
            raise SignatureError(
                f"The {what} of the evaluation {evaluation.id} is {value!r} at the hub, and its worker has signed "
                f"{signed[what]!r}: do not believe it.",
                code="STATEMENT_MISMATCH",
                field=what,
            )
    beside = {metric: each.score if each is not None else None for metric, each in evaluation.beside.items()}
    scores, found = {evaluation.metric: evaluation.score, **beside}, predicate.get("scores")
    return Signed(statement, scores, {each: found.get(each) if isinstance(found, dict) else None for each in scores})


def _digest(subject: object) -> str | None:
    """Of `vera.json`, which is the version's."""
    try:
        return f"sha256:{subject[0]['digest']['sha256']}"  # type: ignore[index]  # whatever it is, it is not that
    except (KeyError, IndexError, TypeError):
        return None


def _rounded(score: object) -> float | None:
    return round(score, 9) if isinstance(score, int | float) else None
