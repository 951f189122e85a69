"""The pages beside a board: who was at its top when, a row of it task by task, and two of them item by item."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from hub.access.services import HubParts
from hub.domain import items, leaderboards, tasks
from hub.errors import NotFound
from hub.web.pages import render
from hub.web.routes import AskedOfBoard, Reading, Text, Visitor

ITEMS_PER_PAGE = 50

router = APIRouter(prefix="/leaderboards/{family}/{task}", include_in_schema=False)
page = partial(router.api_route, methods=["GET", "HEAD"])


@page("/history")
def history_page(
    request: Request, session: Reading, reader: Visitor, asked: Annotated[AskedOfBoard, Depends()],
    *, family: str, task: str,
) -> Response:  # fmt: skip
    """The versions that were the best when they were scored."""
    found = leaderboards.history(session, reader, f"{family}/{task}", asked.narrowed)
    return render(request, "history.html", suite=found.suite, records=found.records[::-1], asked=asked)


@page("/tasks")
def tasks_page(
    request: Request, session: Reading, reader: Visitor,
    *, family: str, task: str, of: Annotated[str, Query(max_length=40)],
) -> Response:  # fmt: skip
    """What a version is worth by each task of a group."""
    found = tasks.tasks_of(session, reader, of)
    if found.suite != f"{family}/{task}":
        raise NotFound(f"This is an evaluation of {found.suite}: look there.", code="EVALUATION_UNKNOWN")
    return render(request, "tasks.html", found=found)


@page("/items")
def items_page(
    request: Request, session: Reading, reader: Visitor, parts: HubParts,
    *, family: str, task: str,
    of: Annotated[str, Query(max_length=40)], against: Annotated[str, Query(max_length=40)],
    only: Literal["worse", "better", "same"] = "worse", cursor: Text = "",
) -> Response:  # fmt: skip
    """Where one version answers worse, or better, than another."""
    pair = items.find_pair(session, reader, of, against)
    if pair.suite.name != f"{family}/{task}":
        raise NotFound(f"These are evaluations of {pair.suite.name}: look there.", code="EVALUATION_UNKNOWN")
    found = items.compare_items(
        session, pair, parts.objects, only=only, cursor=cursor or None, limit=ITEMS_PER_PAGE
    )  # fmt: skip

    def query(**changes: str) -> str:
        return f"?{urlencode({'of': of, 'against': against, 'only': only, **changes})}"

    return render(
        request,
        "items.html",
        found=found,
        only=only,
        query=query,
        next=found.next and query(cursor=found.next),
    )
