"""The list of models: narrowed down and sorted as their clients ask. What they can ask for and is not known here is
refused, and never left unheard: a list that is not narrowed down looks like one that is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from hub.access.services import HubParts, Reading, Services
from hub.api.responses import answer
from hub.auth.policy import Principal
from hub.domain import catalog, finding
from hub.domain.finding import SortedBy, Wanted
from hub.domain.paging import MAX_LIMIT
from hub.domain.snapshots import MAIN, find_snapshot
from hub.domain.views.adapters import FoundView
from hub.errors import Malformed
from hub.hf import describing, shapes
from hub.hf.addresses import page_after
from hub.hf.describing import LONG, Expanded, Properties, Texts
from hub.hf.permission import Reader

router = APIRouter(prefix="/api", include_in_schema=False)

Words = Annotated[str | None, Query(max_length=200)]
# A page of models in full is shorter: each is looked at as its own page is.
_IN_FULL = 20
# `filter` of everything that is kept here.
_ALWAYS = frozenset({"vera", "peft", "safetensors", "library:peft"})
_BASE_PREFIXES = ("base_model:adapter:", "base_model:")
_SORTS: dict[str, SortedBy] = {
    "lastModified": "updated",
    "last_modified": "updated",
    "createdAt": "created",
    "created_at": "created",
    "downloads": "downloads",
}
_KNOWN = frozenset(
    "author cardData config cursor direction expand expand[] filter full gated limit num_parameters pipeline_tag search "
    "sort".split()
)
_SIZE = re.compile(r"(min|max):(\d{1,15}(?:\.\d{1,9})?)([KMBT]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


@router.get("/models")
def list_models(
    request: Request,
    reader: Reader,
    *,
    session: Reading,
    parts: HubParts,
    search: Words = None,
    author: Words = None,
    pipeline_tag: Words = None,
    num_parameters: Words = None,
    filter: Texts = [],  # noqa: B006  # their name for it; FastAPI copies it
    expand: Expanded,
    gated: bool | None = None,
    sort: Words = None,
    direction: int = -1,
    full: bool = False,
    cardData: bool = False,  # as they spell it
    config: bool = False,
    cursor: Annotated[str | None, Query(max_length=600)] = None,
    limit: Annotated[int, Query(ge=1)] = MAX_LIMIT,
) -> Response:
    """Adapters, the last updated first or as asked."""
    _require_known(frozenset(request.query_params))
    order = _order(sort, direction)
    wanted = _read_filters(filter)
    if wanted is None:
        return answer(request, [])
    low, high = _bounds(num_parameters)
    looked_for = replace(
        wanted,
        search=search,
        owner=author,
        task=pipeline_tag,
        is_gated=gated,
        min_parameters=low,
        max_parameters=high,
    )
    is_long = full or cardData or config or bool(expand & LONG)
    length = min(limit, _IN_FULL if is_long else MAX_LIMIT)
    page = finding.search(session, reader, looked_for, sort=order, cursor=cursor, limit=length)
    found = _in_full(request, session, parts, page.items) if is_long else _in_brief(session, page.items)
    shown = answer(request, [describing.only(each, _asked(expand, full, cardData, config)) for each in found])
    if page.next is not None:
        shown.headers["Link"] = page_after(request, page.next)
    return shown


def _asked(expand: Properties, full: bool, card: bool, config: bool) -> Properties:
    """What of each model is told: what is expanded, or what a list tells and the wishes add."""
    if expand:
        return expand
    more = {"siblings"} if full else set()
    if card:
        more.add("cardData")
    if config:
        more.add("config")
    return describing.BRIEF | {"modelId"} | more


def _in_brief(session: Session, found: Sequence[FoundView]) -> list[shapes.Json]:
    latest = catalog.latest_versions(session, found)
    return [shapes.listed(each, latest[each.id]) for each in found if each.id in latest]


def _in_full(request: Request, session: Session, parts: Services, found: Sequence[FoundView]) -> list[shapes.Json]:
    reader: Principal | None = request.state.principal
    snapshots = (find_snapshot(session, reader, each.namespace, each.name, MAIN) for each in found)
    return [describing.whole(request, session, parts, each) for each in snapshots]


def _require_known(names: frozenset[str]) -> None:
    unknown = sorted(names - _KNOWN)
    if unknown:
        raise Malformed(
            f"This hub's list of models cannot be narrowed down by {unknown[0][:40]!r}: leave it out. It knows "
            f"{', '.join(sorted(_KNOWN - {'expand[]'}))}.",
            code="PARAMETER_INVALID",
        )


def _order(sort: str | None, direction: int) -> SortedBy:
    if direction != -1:
        raise Malformed("Lists begin with the most, or the last: leave direction out.", code="PARAMETER_INVALID")
    if sort is not None and sort not in _SORTS:
        raise Malformed(
            f"Models are not sorted by {sort[:40]!r} here, where there are no likes and no trends: there are "
            "lastModified, createdAt and downloads.",
            code="PARAMETER_INVALID",
        )
    return _SORTS[sort] if sort else "updated"


def _bounds(text: str | None) -> tuple[int | None, int | None]:
    """The least and the most parameters that `min:6B,max:128B` asks for."""
    if text is None:
        return None, None
    found: dict[str, int] = {}
    for part in text.split(","):
        match = _SIZE.fullmatch(part.strip())
        if match is None:
            raise Malformed(
                f"{text[:40]!r} is no range of num_parameters: write min:10K, max:2M, or both with a comma between.",
                code="PARAMETER_INVALID",
            )
        found[match[1].lower()] = min(int(float(match[2]) * _UNITS[match[3].upper()]), (1 << 63) - 1)
    return found.get("min"), found.get("max")


def _read_filters(filters: list[str]) -> Wanted | None:
    """What the filters ask for; None when nothing here can meet them all."""
    found: dict[str, set[str]] = {"base": set(), "license": set(), "dataset": set(), "mark": set()}
    for each in (part for text in filters for part in text.split(",")):
        prefix = next((prefix for prefix in _BASE_PREFIXES if each.startswith(prefix)), None)
        kind, colon, value = each.partition(":")
        if each in _ALWAYS:
            continue
        if prefix is not None:
            found["base"].add(each.removeprefix(prefix))
        elif colon and kind in ("license", "dataset"):
            found[kind].add(value)
        else:
            found["mark"].add(each)
    if max(len(found[kind]) for kind in ("base", "license", "dataset")) > 1:
        return None
    base, license_name, dataset = (next(iter(found[kind]), None) for kind in ("base", "license", "dataset"))
    return Wanted(base=base, license=license_name, dataset=dataset, marks=tuple(sorted(found["mark"])))
