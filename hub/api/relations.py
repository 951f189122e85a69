"""How a version relates to others: what changed, where it comes from, and what was made from it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from hub.access.permission import Reader
from hub.access.services import HubParts, Reading, Services
from hub.api.responses import answer
from hub.auth.policy import Principal
from hub.domain import differences, lineage
from hub.domain.views.versions import Lineage, VersionDiff
from vera.ref import AdapterRef

router = APIRouter(prefix="/api/v1/adapters/{namespace}/{name}/versions/{selector}", tags=["Versions"])


@router.get("/diff", response_model=VersionDiff)
async def get_diff(
    request: Request,
    reader: Reader,
    *,
    namespace: str,
    name: str,
    selector: str,
    against: Annotated[str, Query(max_length=200, description="`v2` of the same adapter, or a reference.")],
    parts: HubParts,
) -> Response:
    """What changed from the version `against` to this one: vectors, manifest, card and scores."""
    ref = AdapterRef(namespace, name, selector)
    async with parts.intake.place(reader.account_id if reader else None):  # two adapters are held in memory
        return answer(request, await run_in_threadpool(_diff, parts, reader, ref, against))


@router.get("/lineage", response_model=Lineage)
def get_lineage(
    request: Request, reader: Reader, *, namespace: str, name: str, selector: str, session: Reading
) -> Response:
    """The base of a version, the chain of what it was made from, and what was made from it."""
    return answer(request, lineage.lineage(session, reader, AdapterRef(namespace, name, selector)))


def _diff(parts: Services, reader: Principal | None, ref: AdapterRef, against: str) -> VersionDiff:
    with parts.database.reading() as session:
        pair = differences.find_pair(session, reader, ref, differences.against_of(ref, against))
    return differences.diff_of(pair, parts.objects)
