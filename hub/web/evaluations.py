"""What the page of an adapter asks of its evaluations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from fastapi.responses import RedirectResponse

from hub.access.visiting import Visiting
from hub.access.writing import Writing, WritingRoute
from hub.auth.policy import Action, Principal
from hub.domain import evaluations
from hub.web.pages import page_of

router = APIRouter(route_class=WritingRoute, prefix="/{namespace}/{name}/evaluations", include_in_schema=False)


@router.post("/{evaluation_id}/cancel", status_code=303, response_class=Response)
def cancel(
    principal: Annotated[Principal, Depends(Visiting(Action.CANCEL_EVALUATION))],
    *,
    evaluation_id: str,
    session: Writing,
) -> Response:
    """Ends an evaluation that waits or runs."""
    return RedirectResponse(page_of(evaluations.cancel_evaluation(session, principal, evaluation_id).ref), 303)
