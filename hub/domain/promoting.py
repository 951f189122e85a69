"""A green gate moves an alias: what the gate found and the move are one transaction."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal
from hub.domain import aliases
from hub.domain.aliases import Expected
from hub.domain.catalog import hold_adapter
from hub.domain.evaluations import compare_evaluations, get_evaluation
from hub.domain.views.evaluations import EvaluationView
from hub.domain.views.versions import AliasView
from hub.errors import Conflict, Invalid
from vera.gating import Finding, Minimum, Verdict, judge_minimum, judge_regression, overall
from vera.ref import AdapterRef


@dataclass(frozen=True)
class Gates:
    """What an evaluation must pass: a floor, and no regression of more than `margin` against another evaluation."""

    evaluation: str
    minimum: str | None
    against: str | None
    margin: float


def promote(
    session: Session,
    principal: Principal,
    ref: AdapterRef,
    alias: str,
    gates: Gates,
    *,
    expected: Expected,
) -> tuple[AliasView, bool]:
    """Lets `alias` mean the version that was evaluated if every gate passes, and says whether the alias is new.

    Raises Conflict, and moves nothing, where one fails or is inconclusive; Invalid without a gate and for the
    evaluation of another adapter; and what `set_alias` raises.
    """
    hold_adapter(session, principal, ref.namespace, ref.name, to=Action.SET_ALIAS)
    evaluation = get_evaluation(session, principal, gates.evaluation)
    version = AdapterRef.parse(evaluation.ref)
    if version.adapter_id != ref.adapter_id:
        raise Invalid(
            f"The evaluation {evaluation.id} is of {evaluation.ref}: it says nothing of {ref.adapter_id}.",
            code="EVALUATION_OF_ANOTHER",
        )
    findings = _judge(session, principal, evaluation, gates)
    _require_pass(findings, f"{ref.adapter_id}@{alias[:64]}")
    because = {"evaluation": evaluation.id, "gates": [finding.gate for finding in findings]}
    return aliases.set_alias(session, principal, version, alias, expected=expected, because=because)


def _judge(session: Session, principal: Principal, evaluation: EvaluationView, gates: Gates) -> list[Finding]:
    findings = []
    try:
        if gates.minimum is not None:
            findings.append(judge_minimum(evaluation, Minimum.parse(gates.minimum)))
        if gates.against is not None:
            against = get_evaluation(session, principal, gates.against)
            compared = compare_evaluations(session, principal, evaluation.id, against.id)
            findings.append(judge_regression(compared, gates.margin, against=against.ref))
    except ValueError as error:
        raise Invalid(f"The gate cannot be judged: {error}.", code="GATE_INVALID") from error
    if not findings:
        raise Invalid("A promotion needs a gate: `minimum`, `against` or both.", code="GATE_INVALID")
    return findings


def _require_pass(findings: list[Finding], alias: str) -> None:
    verdict = overall(findings)
    if verdict is Verdict.PASS:
        return
    said = " ".join(
        f"{finding.gate}: {finding.sentence}" for finding in findings if finding.verdict is not Verdict.PASS
    )
    raise Conflict(
        f"{alias} was not moved, because the gate is not green ({verdict}). {said}",
        code="GATE_NOT_PASSED",
        verdict=verdict.value,
        gates=[asdict(finding) for finding in findings],
    )
