"""The pages' addresses. Each reads through `hub.domain`, as the API does, and renders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from hub.access.services import HubParts, Services
from hub.auth.policy import Action, Principal, Resource, is_permitted
from hub.db.queries.evaluations import Narrowed
from hub.db.session import Database
from hub.domain import (
    aliases,
    bases,
    catalog,
    differences,
    downloads,
    evaluations,
    finding,
    leaderboards,
    lineage,
    openings,
)
from hub.domain.finding import Wanted
from hub.domain.secrecy import HIDDEN, PUBLIC
from hub.domain.shaping import groups_tasks
from hub.domain.snapshots import MAIN, Snapshot, find_snapshot
from hub.domain.views.adapters import FoundView
from hub.domain.views.bases import TensorRow
from hub.domain.views.evaluations import EvaluationView, Leaderboard
from hub.domain.views.versions import VersionDetail, VersionSummary
from hub.errors import HubError
from hub.web.assets import all_assets
from hub.web.badges import badge_of
from hub.web.figures import ScoreAxis
from hub.web.pages import render, tagged
from vera.errors import RefError
from vera.ref import AdapterRef

ROWS_PER_PAGE = 25
# So many of the vectors that changed; the API has all of them.
ROWS_OF_A_DIFF = 200
# The CSV and the API have all.
ROWS_OF_A_BOARD = 500
# As many rows of a table as a browser lays out at once; a model of a hundred billion parameters has a thousand tensors.
TENSORS_SHOWN = 1000
FOR_EVER = "public, max-age=31536000, immutable"
# The evaluations of one adapter are by different suites, so only the whole scale is common to them.
WHOLE_AXIS = ScoreAxis(0.0, 1.0, ())

router = APIRouter(include_in_schema=False)
page = partial(router.api_route, methods=["GET", "HEAD"])


def read_session(request: Request) -> Iterator[Session]:
    """A session that reads: one for a page, so that on SQLite it agrees with itself."""
    database: Database = request.app.state.services.database
    with database.reading() as session:
        yield session


async def visitor(request: Request) -> Principal | None:
    """Who looks at the page; None is anybody."""
    found: Principal | None = request.state.principal
    return found


Reading = Annotated[Session, Depends(read_session)]
Visitor = Annotated[Principal | None, Depends(visitor)]
# The longest thing to look for is the name of a base.
Text = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True)
class Asked:
    """What the visitor narrows the list of adapters down to. Empty is everything."""

    search: Text = ""
    base: Text = ""
    family: Text = ""
    owner: Text = ""
    task: Text = ""
    license: Text = ""
    tag: Text = ""
    rank: Annotated[str, Query(pattern=r"^[0-9]{0,9}$")] = ""
    sort: Literal["updated", "downloads", "name"] = "updated"
    cursor: Text = ""

    @property
    def wanted(self) -> Wanted:
        rank = int(self.rank) if self.rank else None
        return Wanted(
            search=self.search.strip() or None,
            base=self.base or None,
            family=self.family or None,
            owner=self.owner or None,
            task=self.task.strip() or None,
            license=self.license or None,
            tags=(self.tag,) if self.tag else (),
            min_rank=rank,
            max_rank=rank,
        )

    @property
    def filters(self) -> Mapping[str, str]:
        """What to carry on to the next page."""
        asked = {name: value for name, value in asdict(self).items() if value and name != "cursor"}
        return asked if self.sort != "updated" else {name: asked[name] for name in asked if name != "sort"}

    def address(self, **changes: str) -> str:
        """The address of the first page that is narrowed down as this one but for these changes."""
        filters = {name: value for name, value in {**self.filters, **changes}.items() if value}
        return f"/?{urlencode(filters)}" if filters else "/"

    @property
    def chosen(self) -> Mapping[str, str]:
        """What was chosen from the facets."""
        return {name: value for name, value in self.filters.items() if name not in ("search", "sort")}

    def page_at(self, cursor: str | None) -> str | None:
        """The address of the page that begins at `cursor`, narrowed down likewise."""
        return cursor and f"/?{urlencode({**self.filters, 'cursor': cursor})}"


@dataclass(frozen=True)
class AskedOfBoard:
    """What the visitor narrows a board down to. Empty is everything."""

    base: Text = ""
    owner: Text = ""
    license: Text = ""
    method: Literal["", "vera", "dvora"] = ""
    max_rank: Annotated[str, Query(pattern=r"^[0-9]{0,9}$")] = ""
    max_bytes: Annotated[str, Query(pattern=r"^[0-9]{0,15}$")] = ""

    @property
    def narrowed(self) -> Narrowed:
        return Narrowed(
            base=self.base or None,
            owner=self.owner or None,
            license=self.license or None,
            method=self.method or None,
            max_rank=int(self.max_rank) if self.max_rank else None,
            max_bytes=int(self.max_bytes) if self.max_bytes else None,
        )

    def query(self, **changes: str) -> str:
        """The address of the board that is narrowed down as this one but for these changes."""
        filters = {name: value for name, value in {**asdict(self), **changes}.items() if value}
        return f"?{urlencode(filters)}"


@dataclass(frozen=True)
class AdapterRow:
    """An adapter as the list shows it: with its latest version, and the best score of that."""

    adapter: FoundView
    version: VersionSummary | None
    best: EvaluationView | None


@page("/static/{name}")
def static_file(name: str) -> Response:
    """A static file. Its address changes with its content."""
    asset = all_assets().get(name)
    if asset is None:
        raise HTTPException(404)
    return Response(asset.body, headers={"Cache-Control": FOR_EVER}, media_type=asset.media_type)


@page("/favicon.ico")
def favicon() -> Response:
    """The icon, where browsers look for it by themselves when something is not a page."""
    asset = all_assets()["favicon.svg"]
    return Response(asset.body, headers={"Cache-Control": "public, max-age=86400"}, media_type=asset.media_type)


@page("/")
def adapters_page(request: Request, session: Reading, reader: Visitor, asked: Annotated[Asked, Depends()]) -> Response:
    """The adapters, the last updated first or as asked, and what they can be narrowed down to."""
    wanted = asked.wanted
    found = finding.search(session, reader, wanted, sort=asked.sort, cursor=asked.cursor or None, limit=ROWS_PER_PAGE)
    latest = catalog.latest_versions(session, found.items)
    best = catalog.best_evaluations(session, found.items)
    return render(
        request,
        "adapters.html",
        asked=asked,
        rows=[AdapterRow(each, latest.get(each.id), best.get(each.id)) for each in found.items],
        facets=finding.facets(session, reader, wanted),
        next=asked.page_at(found.next),
        first=asked.address(),
    )


@page("/leaderboards")
def leaderboards_page(request: Request, session: Reading) -> Response:
    """The suites, each with its board."""
    return render(request, "leaderboards.html", suites=evaluations.list_suites(session))


@page("/leaderboards/{family}/{task}")
def leaderboard_page(
    request: Request, session: Reading, reader: Visitor, asked: Annotated[AskedOfBoard, Depends()],
    *, family: str, task: str,
) -> Response:  # fmt: skip
    """The board of a suite, for one base or for all, as far as it is wanted."""
    board = leaderboards.leaderboard(session, reader, f"{family}/{task}", asked.narrowed, limit=ROWS_OF_A_BOARD + 1)
    return render(
        request,
        "leaderboard.html",
        board=replace(board, rows=board.rows[:ROWS_OF_A_BOARD]),
        is_longer=len(board.rows) > ROWS_OF_A_BOARD,
        asked=asked,
        has_items=board.suite.definition.get("items") == PUBLIC,
        has_tasks=board.suite.definition.get("items") != HIDDEN and bool(groups_tasks(board.suite)),
        base=asked.base,
        bases=sorted({row.base for row in board.rows}, key=lambda each: each.name),
        axis=axis_of(board),
        has_ties=sum(row.tied_with_best for row in board.rows) > 1,
    )


@page("/leaderboards/{family}/{task}/export.csv")
def leaderboard_csv(
    request: Request, session: Reading, reader: Visitor, asked: Annotated[AskedOfBoard, Depends()],
    *, family: str, task: str,
) -> Response:  # fmt: skip
    """The board as a table for spreadsheets, with everything that the API says of a row."""
    board = leaderboards.leaderboard(session, reader, f"{family}/{task}", asked.narrowed)
    named = {"Content-Disposition": f'attachment; filename="{family}-{task}.csv"', "X-Content-Type-Options": "nosniff"}
    return tagged(request, leaderboards.as_csv(board).encode(), "text/csv; charset=utf-8", named)


@page("/{namespace}/{name}/badge/{family}/{task}.svg")
def badge(
    request: Request, session: Reading, reader: Visitor, *, namespace: str, name: str, family: str, task: str
) -> Response:
    """The score of the adapter's latest version on a suite, as an image for a README."""
    version = catalog.resolve_version(session, reader, AdapterRef(namespace, name))
    found = next((each for each in version.evaluations if each.suite == f"{family}/{task}"), None)
    image = badge_of(f"{family}/{task}", found).encode()
    return tagged(request, image, "image/svg+xml", {"Content-Security-Policy": "default-src 'none'"})


@page("/bases")
def bases_page(request: Request, session: Reading, reader: Visitor, cursor: Text = "") -> Response:
    """The registered bases, by name."""
    found = bases.list_bases(session, reader, cursor=cursor or None, limit=ROWS_PER_PAGE)
    next_page = found.next and f"/bases?{urlencode({'cursor': found.next})}"
    return render(request, "bases.html", bases=found.items, next=next_page, is_later_page=bool(cursor))


@page("/bases/{fingerprint}")
def base_page(request: Request, session: Reading, reader: Visitor, *, fingerprint: str, tensor: Text = "") -> Response:
    """A base and its tensor table, narrowed down to what `tensor` looks for."""
    base = bases.get_base(session, reader, fingerprint)
    found = [row for row in base.tensors if _is_wanted(row, tensor)]
    shown = found[:TENSORS_SHOWN]
    return render(request, "base.html", base=base, tensor=tensor, found=len(found), tensors=shown)


def _is_wanted(row: TensorRow, search: str) -> bool:
    """Whether every word of `search` is in the name, is the type, or begins the hash of a tensor."""
    name, dtype, _, sha256 = row
    words = search.lower().split()
    return all(word in name.lower() or word == dtype.lower() or sha256.startswith(word) for word in words)


@page("/{namespace}/{name}")
def adapter_page(request: Request, session: Reading, reader: Visitor, namespace: str, name: str) -> Response:
    """An adapter at its latest version, or at the one that is pinned in the name as in a reference; or its draft, while
    it has none."""
    if openings.find(session, reader, namespace, name) is not None:
        return draft_page(request, find_snapshot(session, reader, namespace, name, MAIN))
    return version_page(request, session, reader, f"{namespace}/{name}")


@page("/{namespace}/{name}/v{number}")
def adapter_version_page(
    request: Request, session: Reading, reader: Visitor, *, namespace: str, name: str, number: str
) -> Response:
    """An adapter at one version."""
    return version_page(request, session, reader, f"{namespace}/{name}@v{number}")


@page("/{namespace}/{name}/commit/{commit}")
def adapter_commit_page(
    request: Request, session: Reading, reader: Visitor, *, namespace: str, name: str, commit: str
) -> Response:
    """An adapter at the version or the draft of a commit, where clients of the Hugging Face Hub's wire send people to."""
    if (found := find_snapshot(session, reader, namespace, name, commit)).draft is not None:
        return draft_page(request, found)
    return version_page(request, session, reader, f"{namespace}/{name}@{commit}")


@page("/{namespace}/{name}/aliases/{alias}")
def alias_page(
    request: Request, session: Reading, reader: Visitor,
    *, namespace: str, name: str, alias: str, cursor: Text = "", at: Text = "",
) -> Response:  # fmt: skip
    """What an alias meant from when to when, and at a moment that somebody asks for."""
    ref = AdapterRef(namespace, name)
    moves = aliases.history(session, reader, ref, alias, cursor=cursor or None, limit=ROWS_PER_PAGE)
    then = problem = None
    if at:
        try:
            then = aliases.alias_at(session, reader, ref, alias, at)
        except HubError as error:
            problem = str(error)
    return render(
        request, "alias.html", id=ref.adapter_id, alias=alias, moves=moves.items,
        next=moves.next and f"?{urlencode({'cursor': moves.next})}",
        asked=at, then=then, problem=problem,
    )  # fmt: skip


@page("/{namespace}/{name}/v{number}/diff")
async def diff_page(
    request: Request, reader: Visitor, parts: HubParts, *, namespace: str, name: str, number: str, against: Text
) -> Response:
    """What changed to this version from another one."""
    ref = reference_of(f"{namespace}/{name}@v{number}")
    async with parts.intake.place(reader.account_id if reader else None):  # two adapters are held in memory
        return await run_in_threadpool(_render_diff, request, parts, reader, ref, against)


def _render_diff(
    request: Request, parts: Services, reader: Principal | None, ref: AdapterRef, against: str
) -> Response:
    with parts.database.reading() as session:
        pair = differences.find_pair(session, reader, ref, differences.against_of(ref, against))
    return render(request, "diff.html", diff=differences.diff_of(pair, parts.objects), shown=ROWS_OF_A_DIFF)


def reference_of(text: str) -> AdapterRef:
    """The reference that an address spells. What can be none is at no address."""
    try:
        return AdapterRef.parse(text)
    except RefError as error:
        raise HTTPException(404) from error


def version_page(request: Request, session: Session, reader: Principal | None, reference: str) -> Response:
    """The page of the version that `reference` means. What can be no reference is at no address."""
    ref = reference_of(reference)
    version = _shown(session, reader, ref)
    return render(
        request,
        "adapter.html",
        adapter=catalog.get_adapter(session, reader, ref.namespace, ref.name),
        version=version,
        lineage=lineage.lineage(session, reader, AdapterRef(ref.namespace, ref.name, f"v{version.version}")),
        downloads=downloads.of_adapter(session, reader, ref.namespace, ref.name, days=30),
        axis_for=axis_for,
        may_cancel=reader is not None
        and is_permitted(reader, Action.CANCEL_EVALUATION, Resource(ref.namespace, ref.name)),
    )


def draft_page(request: Request, found: Snapshot) -> Response:
    """The page of a commit that is no version."""
    return render(
        request, "draft.html", found=found, loose=[file for file in found.files.values() if found.is_loose(file)]
    )


def _shown(session: Session, reader: Principal | None, ref: AdapterRef) -> VersionDetail:
    """The version of a page: an adapter has one even while no version is its latest."""
    if ref.selector is None and ref.digest is None:
        return catalog.newest_version(session, reader, ref.namespace, ref.name)
    return catalog.resolve_version(session, reader, ref)


def axis_for(evaluation: EvaluationView) -> ScoreAxis:
    """The scale of one score: the whole of 0 to 1, or what holds it where it may lie outside."""
    ends = evaluation.interval or ()
    return WHOLE_AXIS if all(0 <= end <= 1 for end in ends) else ScoreAxis.over([0.0, *ends])


def axis_of(board: Leaderboard) -> ScoreAxis:
    """The scale of a board: wide enough for every interval and for the majority class."""
    majority = board.suite.baselines.get("majority")
    ends = [end for row in board.rows for end in row.interval]
    return ScoreAxis.over(ends if majority is None else [*ends, majority])
