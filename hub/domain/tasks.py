"""What each task of a group is worth, beside the one score that the group has (`hub.worker.harness`)."""

from __future__ import annotations

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.models.evaluating import Evaluation, Suite
from hub.db.queries import evaluations
from hub.domain import secrecy
from hub.domain.evaluations import get_evaluation, unpack, unpack_beside
from hub.domain.shaping import groups_tasks
from hub.domain.views.evaluations import ScoreBeside, TaskScore, TasksView
from hub.errors import Conflict, Forbidden
from hub.scoring import grouped

# Of fewer items a score says what single ones are worth, which only a suite with public items shows.
FEWEST_ITEMS = 10


def tasks_of(session: Session, reader: Principal | None, evaluation_id: str) -> TasksView:
    """The scores of the tasks of a group, in the order of the group; none where the suite is no group. Raises NotFound, Conflict
    while there is no score, and Forbidden where the answers are hidden: each score more tells something of them."""
    view = get_evaluation(session, reader, evaluation_id)
    found = evaluations.with_items(session, int(view.id))
    assert found is not None
    if secrecy.access_of(found.suite) == secrecy.HIDDEN:
        raise Forbidden(
            f"What single tasks of {view.suite} are worth is not shown: its answers are hidden, and each score more would tell "
            "something of them.",
            code="TASKS_NOT_SHOWN",
            suite=view.suite,
        )
    if view.state != "done" or found.outcomes is None:
        raise Conflict(
            f"The evaluation {view.id} of {view.ref} is {view.state}: wait until it is done.",
            code="EVALUATION_NOT_DONE",
            state=view.state,
        )
    return TasksView(evaluation=view.id, ref=view.ref, suite=view.suite, metric=view.metric, tasks=_scored(found))


def _scored(evaluation: Evaluation) -> tuple[TaskScore, ...]:
    suite, stated = evaluation.suite, groups_tasks(evaluation.suite)
    assert evaluation.outcomes is not None
    beside = unpack_beside(evaluation.beside_outcomes) if evaluation.beside_outcomes else {}
    outcomes = {suite.metric: unpack(evaluation.outcomes), **beside}
    scored = grouped.scores([each["items"] for each in stated.values()], outcomes)
    return tuple(
        TaskScore(
            task=name,
            version=_text(each.get("task_version")),
            num_fewshot=each.get("num_fewshot"),
            items=each["items"],
            scores={metric: ScoreBeside(*one) for metric, one in found.items()}
            if _is_shown(suite, each["items"])
            else {},
        )
        for (name, each), found in zip(stated.items(), scored, strict=True)
    )


def _is_shown(suite: Suite, items: int) -> bool:
    return items >= FEWEST_ITEMS or secrecy.access_of(suite) == secrecy.PUBLIC


def _text(version: object) -> str | None:
    return None if version is None else f"{version:g}" if isinstance(version, float) else str(version)
