"""What evaluation workers call."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from hub.access.permission import Allowed
from hub.access.services import HubParts
from hub.access.writing import Writing, WritingRoute, writing_as
from hub.api.bodies import JsonBody
from hub.api.responses import answer, hub_names
from hub.api.schemas import (
    ClaimRequest,
    FailureReport,
    Heartbeat,
    ResultReport,
    SuiteRegistration,
    WorkerEnrolment,
    WorkerRegistered,
    WorkerRegistration,
)
from hub.auth.policy import Action, Principal
from hub.domain import enrolling, jobs, registering
from hub.domain.enrolling import Shown
from hub.domain.registering import SuiteDefinition
from hub.domain.views.evaluations import Job, WorkerTokenView

router = APIRouter(route_class=WritingRoute, prefix="/api/v1/worker", tags=["Workers"])

MayEvaluate = Annotated[Principal, Depends(Allowed(Action.EVALUATE))]


@router.post("/enrol", status_code=201, response_model=WorkerTokenView, dependencies=[Depends(Allowed(Action.SIGN_IN))])
def enrol(
    request: Request, body: Annotated[WorkerEnrolment, Depends(JsonBody(WorkerEnrolment))], session: Writing
) -> Response:
    """From the code that an admin has made to the token of a worker with this key, once."""
    return answer(request, enrolling.enrol(session, body.code, body.name, _shown(request, body)), status=201)


@router.post("/register", response_model=WorkerRegistered)
def register(
    request: Request,
    principal: MayEvaluate,
    body: Annotated[WorkerRegistration, Depends(JsonBody(WorkerRegistration, "table"))],
    session: Writing,
) -> Response:
    """Name a worker, the key it signs with and the suites it knows. A definition that is new here becomes the current one."""
    known = [_definition(suite) for suite in body.suites]
    worker_id = registering.register_worker(
        session,
        principal,
        body.name,
        known,
        shown=_shown(request, body),
        memory_bytes=body.memory_bytes,
        lacks=body.lacks,
    )
    return answer(request, WorkerRegistered(worker_id=worker_id))


@router.post("/claims", response_model=Job, responses={204: {"description": "Nothing to do"}})
def claim(
    request: Request,
    principal: MayEvaluate,
    body: Annotated[ClaimRequest, Depends(JsonBody(ClaimRequest))],
    session: Writing,
) -> Response:
    """Take the next job."""
    job = jobs.claim_job(session, principal, body.worker_id, body.suites, bases=body.bases)
    return answer(request, job) if job else Response(status_code=204)


@router.post("/jobs/{job_id}/heartbeat", status_code=204, response_class=Response)
def heartbeat(
    job_id: str,
    principal: MayEvaluate,
    body: Annotated[Heartbeat, Depends(JsonBody(Heartbeat))],
    session: Writing,
) -> None:
    """Keep a job for another lease, and say how many of its items are answered."""
    jobs.extend_lease(session, principal, job_id, body.fence, items_done=body.items_done)


@router.post("/jobs/{job_id}/result", status_code=204, response_class=Response)
def result(
    job_id: str,
    principal: MayEvaluate,
    body: Annotated[ResultReport, Depends(JsonBody(ResultReport, "table"))],
    parts: HubParts,
) -> None:
    """Hand in what each item earned and what was answered to it, and what the worker has signed of that."""
    with parts.database.reading() as session:
        measured = jobs.measured_by(session, principal, job_id, body.fence)
    checked = jobs.check_result(
        measured, body.outcomes, body.outputs, body.environment, body.seconds,
        envelope=body.envelope.model_dump(), beside=body.beside, salt=body.salt,
    )  # fmt: skip
    kept = jobs.put_large_outputs(parts.objects, checked)
    with writing_as(parts, principal) as session:
        jobs.finish_job(session, principal, job_id, body.fence, kept)


@router.post("/jobs/{job_id}/failure", status_code=204, response_class=Response)
def failure(
    job_id: str,
    principal: MayEvaluate,
    body: Annotated[FailureReport, Depends(JsonBody(FailureReport))],
    session: Writing,
) -> None:
    """Say that a job could not be done."""
    jobs.report_failure(
        session, principal, job_id, body.fence, code=body.code, detail=body.detail, is_retryable=body.retryable
    )


def _shown(request: Request, body: WorkerEnrolment | WorkerRegistration) -> Shown:
    proof = body.proof.model_dump() if body.proof is not None else None
    return Shown(body.public_key, proof, hub_names(request))


def _definition(suite: SuiteRegistration) -> SuiteDefinition:
    return SuiteDefinition(
        name=suite.name,
        definition=suite.definition,
        title=suite.title,
        metric=suite.metric,
        items=suite.items,
        labels=tuple(suite.labels),
        baselines=suite.baselines,
    )
