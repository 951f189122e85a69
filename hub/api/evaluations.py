"""Suites, evaluations and leaderboards."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from hub.access.limits import EVALUATIONS, count
from hub.access.permission import Allowed, Reader, ReadOnly
from hub.access.services import HubParts, Reading
from hub.access.writing import Writing, WritingRoute
from hub.api.bodies import JsonBody
from hub.api.parameters import Cursor, Limit, Narrowing
from hub.api.responses import answer, linked
from hub.api.schemas import EvaluationRequest
from hub.auth.policy import Action, Principal
from hub.domain import evaluations, items, leaderboards, tasks
from hub.domain.views.evaluations import (
    BoardHistory,
    Comparison,
    EvaluationView,
    ItemsCompared,
    Leaderboard,
    SignatureView,
    SuiteView,
    TasksView,
)
from hub.domain.views.page import Page
from vera.ref import AdapterRef

router = APIRouter(route_class=WritingRoute, prefix="/api/v1", tags=["Evaluations"])

WithItems = Annotated[bool, Query(alias="items", description="What the digests are of, where the suite shows it.")]
Best = Annotated[int | None, Query(ge=1, le=1_000_000, description="The best so many; all, otherwise.")]


@router.get("/suites", response_model=Page[SuiteView], dependencies=[ReadOnly])
def list_suites(request: Request, session: Reading) -> Response:
    """Every suite as it is defined now."""
    return answer(request, Page(evaluations.list_suites(session)))


@router.get("/suites/{family}/{task}", response_model=SuiteView, dependencies=[ReadOnly])
def get_suite(request: Request, family: str, task: str, session: Reading) -> Response:
    """A suite as it is defined now."""
    return answer(request, evaluations.get_suite(session, f"{family}/{task}"))


@router.post("/evaluations", status_code=202, response_model=EvaluationView, responses={200: {"model": EvaluationView}})
def request_evaluation(
    request: Request,
    principal: Annotated[Principal, Depends(Allowed(Action.REQUEST_EVALUATION))],
    body: Annotated[EvaluationRequest, Depends(JsonBody(EvaluationRequest))],
    session: Writing,
    parts: HubParts,
) -> Response:
    """Ask for a version to be evaluated. 200 when that was asked before; what failed is tried again."""
    view, is_queued = evaluations.request_evaluation(session, principal, AdapterRef.parse(body.ref), body.suite)
    if is_queued and parts.settings.has_rate_limits:
        count(request, parts.buckets, EVALUATIONS, f"{principal.account_id} {body.suite}")
    return answer(request, view, status=202 if is_queued else 200)


@router.get("/evaluations/{evaluation_id}", response_model=EvaluationView)
def get_evaluation(request: Request, reader: Reader, evaluation_id: str, session: Reading) -> Response:
    """How an evaluation stands."""
    return answer(request, evaluations.get_evaluation(session, reader, evaluation_id))


@router.get("/evaluations/{evaluation_id}/signature", response_model=SignatureView)
def get_signature(
    request: Request,
    reader: Reader,
    evaluation_id: str,
    session: Reading,
    *,
    parts: HubParts,
    with_items: WithItems = False,
) -> Response:
    """What the worker has signed of an evaluation, and its public key; with `items`, what it is the digest of, where the
    suite shows that."""
    signature = evaluations.signature_of(session, reader, evaluation_id)
    if with_items:
        signature = replace(signature, items=items.signed_items(session, evaluation_id, parts.objects))
    return answer(request, signature)


@router.get("/evaluations/{evaluation_id}/tasks", response_model=TasksView)
def get_tasks(request: Request, reader: Reader, evaluation_id: str, session: Reading) -> Response:
    """What each task of a group is worth, where a suite is one."""
    return answer(request, tasks.tasks_of(session, reader, evaluation_id))


@router.post("/evaluations/{evaluation_id}/cancel", response_model=EvaluationView)
def cancel_evaluation(
    request: Request,
    principal: Annotated[Principal, Depends(Allowed(Action.CANCEL_EVALUATION))],
    evaluation_id: str,
    session: Writing,
) -> Response:
    """End an evaluation that waits or runs. Asking for it again puts it back in the queue."""
    return answer(request, evaluations.cancel_evaluation(session, principal, evaluation_id))


@router.get("/evaluations/{evaluation_id}/comparison", response_model=Comparison)
def compare_evaluations(
    request: Request,
    reader: Reader,
    evaluation_id: str,
    against: Annotated[str, Query(max_length=40)],
    session: Reading,
) -> Response:
    """Two finished evaluations of one suite, paired by item."""
    return answer(request, evaluations.compare_evaluations(session, reader, evaluation_id, against))


@router.get("/evaluations/{evaluation_id}/items", response_model=ItemsCompared)
def compare_items(
    request: Request,
    reader: Reader,
    *,
    evaluation_id: str,
    against: Annotated[str, Query(max_length=40, description="The other evaluation, of the same suite.")],
    only: Annotated[items.Change | None, Query(description="Only items that this one answered so.")] = None,
    session: Reading,
    parts: HubParts,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Two finished evaluations item by item, where this one lost most first. Of suites whose items are public."""
    pair = items.find_pair(session, reader, evaluation_id, against)
    found = items.compare_items(session, pair, parts.objects, only=only, cursor=cursor, limit=limit)
    return linked(answer(request, found), request, found.next)


@router.get("/leaderboards/{family}/{task}/history", response_model=BoardHistory)
def get_history(
    request: Request, reader: Reader, *, family: str, task: str, session: Reading, narrowed: Narrowing
) -> Response:
    """The versions that were the best of a board when they were scored, the first first."""
    return answer(request, leaderboards.history(session, reader, f"{family}/{task}", narrowed))


@router.get("/leaderboards/{family}/{task}", response_model=Leaderboard)
def get_leaderboard(
    request: Request,
    reader: Reader,
    *,
    family: str,
    task: str,
    session: Reading,
    narrowed: Narrowing,
    limit: Best = None,
) -> Response:
    """The versions that a suite has scored, best first, as far as they are wanted."""
    return answer(request, leaderboards.leaderboard(session, reader, f"{family}/{task}", narrowed, limit=limit))
