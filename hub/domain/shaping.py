"""From rows to views."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.models.evaluating import Evaluation, Suite, Worker, WorkerKey
from hub.db.models.versions import Version
from hub.db.queries import evaluations, queueing
from hub.db.queries.aliases import Pointing
from hub.db.queries.bases import CountedBase
from hub.db.queries.evaluations import Placed
from hub.domain import matching, secrecy
from hub.domain.views.adapters import AdapterView
from hub.domain.views.bases import BaseName, BaseView, TaskView
from hub.domain.views.evaluations import EvaluationView, ScoreBeside, SignerView, SuiteView
from hub.domain.views.versions import AliasView, DeprecationView, ReportedScore, SourceView, VersionSummary

_OPEN = ("waiting", "running")


def base_view(counted: CountedBase) -> BaseView:
    base = counted.base
    return BaseView(
        fingerprint=base.fingerprint,
        name=base.name,
        revision=base.revision,
        dtype=base.dtype,
        parameters=base.parameters,
        size_bytes=base.size_bytes,
        tensor_count=base.tensor_count,
        adapter_count=counted.adapter_count,
        created_at=base.created_at,
    )


def adapter_view(adapter: Adapter) -> AdapterView:
    return AdapterView(
        id=adapter_id(adapter),
        namespace=adapter.account.name,
        name=adapter.name,
        base=BaseName(adapter.base.name, adapter.base.fingerprint),
        task=TaskView(adapter.task_kind, tuple(adapter.labels or ())) if adapter.task_kind else None,
        latest=adapter.latest_number,
        visibility="private" if adapter.is_private else "public",
        gated=adapter.gate,  # type: ignore[arg-type]  # the table's CHECK holds it to the two
        created_at=adapter.created_at,
        updated_at=adapter.updated_at,
        mirrored_from=adapter.account.mirrored_from,
    )


def version_summary(version: Version) -> VersionSummary:
    return summary_of(version, adapter_id(version.adapter), created_by=version.created_by.name)


def summary_of(version: Version, adapter_id: str, *, created_by: str) -> VersionSummary:
    """The summary of a version whose adapter and author are known by name."""
    return VersionSummary(
        version=version.number,
        ref=f"{adapter_id}@v{version.number}",
        digest=version.digest,
        weights_digest=version.weights_digest,
        commit=version.commit,
        rank=version.rank,
        parameters=version.parameters,
        vector_bytes=version.vector_bytes,
        head_bytes=version.head_bytes,
        size_bytes=version.size_bytes,
        lora_bytes=version.lora_bytes,
        message=version.message,
        created_at=version.created_at,
        created_by=created_by,
        prerelease=version.is_prerelease,
        yanked=version.yank_reason,
        deprecated=deprecation_view(version.deprecation, version.replacement),
        quarantined=version.quarantine_reason,
        deleted=version.delete_reason,
    )


def deprecation_view(message: str | None, replacement: str | None) -> DeprecationView | None:
    return None if message is None else DeprecationView(message=message, replacement=replacement)


def source_view(version: Version) -> SourceView | None:
    return SourceView(**version.source) if version.source else None


def reported_of(version: Version) -> tuple[ReportedScore, ...]:
    return tuple(ReportedScore(*each) for each in version.reported or ())


def alias_view(adapter: Adapter, pointing: Pointing) -> AliasView:
    alias, version, move = pointing
    return AliasView(
        name=alias.name,
        version=version.number,
        ref=f"{adapter_id(adapter)}@v{version.number}",
        digest=version.digest,
        protected=alias.is_protected,
        revision=move.id,
        updated_at=move.at,
        updated_by=move.by.name,
    )


def suite_view(suite: Suite) -> SuiteView:
    return SuiteView(
        name=suite.name,
        digest=suite.digest,
        definition=suite.definition,
        title=suite.title,
        metric=suite.metric,
        items=suite.items,
        labels=tuple(suite.labels),
        baselines=suite.baselines,
        created_at=suite.created_at,
    )


def evaluation_views(session: Session, placed: Sequence[Placed]) -> tuple[EvaluationView, ...]:
    """The views of `placed`, those that wait with the reason why."""
    if not placed:
        return ()
    at = db.now(session)
    there = matching.workers_there(session, at)
    open_suites = {each.evaluation.suite_id for each in placed if each.evaluation.state in _OPEN}
    paces = queueing.seconds_each(session, open_suites)
    return tuple(_evaluation_view(each, at, there, paces) for each in placed)


def evaluations_of(session: Session, version_id: int) -> tuple[EvaluationView, ...]:
    """Those of one version, the earliest first."""
    return evaluation_views(session, evaluations.of_version(session, version_id))


def adapter_id(adapter: Adapter) -> str:
    return f"{adapter.account.name}/{adapter.name}"


def ref_of(version: Version) -> str:
    return f"{adapter_id(version.adapter)}@v{version.number}"


def _evaluation_view(
    placed: Placed, at: datetime, there: Sequence[Worker], paces: Mapping[int, float]
) -> EvaluationView:
    evaluation, position = placed
    state, reason = evaluation.state, evaluation.reason
    if is_abandoned(evaluation, at):
        state, position, reason = "waiting", 1, "Its worker stopped answering: another one will take it."
    why_nobody_comes = matching.why_nobody_comes(evaluation, there) if state == "waiting" else None
    why_it_is_left = matching.why_it_is_left(evaluation, there) if state == "waiting" else None
    reason = why_nobody_comes or why_it_is_left or reason
    pace = None if why_nobody_comes or state not in _OPEN else paces.get(evaluation.suite_id)
    estimate_s = None if pace is None else _estimate(evaluation, at, there, pace, position)
    if state == "running" and (reason := _why_nobody_knows(evaluation, at, estimate_s)):
        estimate_s = None
    interval = (evaluation.low, evaluation.high)
    return EvaluationView(
        id=str(evaluation.id),
        ref=ref_of(evaluation.version),
        version_digest=evaluation.version.digest,
        suite=evaluation.suite.name,
        spec_digest=evaluation.spec_digest,
        state=state,  # type: ignore[arg-type]  # the table's CHECK holds it to the four states
        score=evaluation.score,
        interval=interval if interval[0] is not None and interval[1] is not None else None,  # type: ignore[arg-type]  # both are numbers here
        metric=evaluation.suite.metric,
        items=evaluation.suite.items,
        items_done=evaluation.items_done if state == "running" else None,
        attempts=evaluation.attempts,
        position=position,
        reason=reason,
        worker=evaluation.worker.name if evaluation.worker else None,
        created_at=evaluation.created_at,
        started_at=evaluation.started_at,
        finished_at=evaluation.finished_at,
        environment=evaluation.environment,
        beside=scores_beside(evaluation),
        seconds=evaluation.seconds,
        estimate_seconds=estimate_s,
        worker_seen_at=evaluation.worker.last_seen_at if evaluation.worker else None,
        signed_by=signer_view(evaluation.worker_key) if evaluation.worker_key else None,
        tasks=0 if secrecy.access_of(evaluation.suite) == secrecy.HIDDEN else len(groups_tasks(evaluation.suite)),
    )


def signer_view(key: WorkerKey) -> SignerView:
    return SignerView(key_id=key.key_id, name=key.name, revoked_at=key.revoked_at)


def metrics_beside(suite: Suite) -> tuple[str, ...]:
    """Those that stand beside the one that ranks, as the suite's definition says."""
    stated = suite.definition.get("also")
    return tuple(each for each in stated if isinstance(each, str)) if isinstance(stated, list) else ()


def groups_tasks(suite: Suite | SuiteView) -> dict[str, Mapping[str, Any]]:
    """What is said of each task of a group, in the order in which their items come by turns; of other suites nothing. A definition
    is what a worker has written, so that what does not make up the suite's items is none."""
    harness = suite.definition.get("harness")
    stated = harness.get("tasks") if isinstance(harness, dict) else None
    if not isinstance(stated, dict) or not all(map(_has_items, stated.values())):
        return {}
    return stated if sum(each["items"] for each in stated.values()) == suite.items else {}


def _has_items(stated: object) -> bool:
    if not isinstance(stated, dict):
        return False
    items, shots = stated.get("items"), stated.get("num_fewshot")
    return isinstance(items, int) and items > 0 and isinstance(shots, int | None)


def noise_of(evaluation: Evaluation) -> float | None:
    """How far another layout of the batches has moved the score, where that was measured: it is of the metric that ranks."""
    measured = evaluation.environment.get("noise")
    score = measured.get("score") if isinstance(measured, dict) else None
    if isinstance(score, int | float) and math.isfinite(score):
        return float(score)
    return None


def scores_beside(evaluation: Evaluation) -> dict[str, ScoreBeside | None]:
    """Of each metric beside the one that ranks; None of one that was not computed. Empty before there is a score."""
    if evaluation.score is None:
        return {}
    found = {
        metric: ScoreBeside(score, (low, high)) for metric, (score, low, high) in (evaluation.beside or {}).items()
    }
    return {metric: found.get(metric) for metric in metrics_beside(evaluation.suite)}


def _estimate(
    evaluation: Evaluation, at: datetime, there: Sequence[Worker], pace: float, position: int | None
) -> float:
    """In how many seconds it may be done: those before it take as long as itself, and share the workers that can. Of one
    that runs, the items that are left take as long as those that are answered."""
    if position is None:
        elapsed = (at - evaluation.started_at).total_seconds() if evaluation.started_at else 0.0
        if done := evaluation.items_done:
            return elapsed * (evaluation.suite.items - done) / done
        return pace - elapsed
    return pace * math.ceil(position / max(1, len(matching.able_of(evaluation, there))))


def _why_nobody_knows(evaluation: Evaluation, at: datetime, estimate_s: float | None) -> str | None:
    """Of a job that runs, why nobody can know when it is done; None when somebody can, and before its suite was ever done."""
    expires = evaluation.lease_expires_at
    if expires is not None and expires - at < matching.LEASE / 2:
        return "Nothing was heard of its worker lately: if that stays so, another one takes it within a minute."
    if estimate_s is not None and estimate_s < 0:
        return "It takes longer than its suite has lately taken."
    return None


def is_abandoned(evaluation: Evaluation, at: datetime) -> bool:
    """True when the lease ran out and nobody has taken the job yet."""
    expires = evaluation.lease_expires_at
    return evaluation.state == "running" and expires is not None and expires <= at
