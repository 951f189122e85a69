"""Query parameters that several routes share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, get_origin

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant
from pydantic import Field

from hub.db.queries.evaluations import Narrowed
from hub.domain.finding import Wanted
from hub.domain.paging import MAX_LIMIT
from hub.errors import Invalid

ADDRESSES = "/api/v1/"

Cursor = Annotated[str | None, Query(max_length=600, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Search = Annotated[str | None, Query(max_length=200)]
Tags = Annotated[
    list[Annotated[str, Field(max_length=200)]], Query(max_length=8, description="Tags, all of which it must have.")
]
Rank = Annotated[int | None, Query(ge=1, le=1 << 31)]
Bytes = Annotated[int | None, Query(ge=1, lt=1 << 63)]
Score = Annotated[float | None, Query(allow_inf_nan=False, description="Or better: less, where less is.")]


async def narrowing(
    *,
    base: Annotated[str | None, Query(max_length=200, description="A name or a fingerprint.")] = None,
    owner: Search = None,
    license: Search = None,
    min_rank: Rank = None,
    max_rank: Rank = None,
    max_bytes: Bytes = None,
    method: Annotated[str | None, Query(max_length=16, description="vera or dvora.")] = None,
) -> Narrowed:
    """What a leaderboard is narrowed down to."""
    return Narrowed(base, owner, license, min_rank, max_rank, max_bytes, method)


Narrowing = Annotated[Narrowed, Depends(narrowing)]


async def looking(
    *,
    search: Search = None,
    base: Annotated[str | None, Query(max_length=200, description="A name or a fingerprint.")] = None,
    family: Annotated[str | None, Query(max_length=64, description="As in `llama`.")] = None,
    owner: Search = None,
    task: Search = None,
    license: Search = None,
    tag: Tags = [],  # noqa: B006  # FastAPI copies it
    dataset: Annotated[str | None, Query(max_length=200, description="A name or a digest.")] = None,
    projection: Annotated[str | None, Query(max_length=71, description="The digest of its matrices.")] = None,
    min_rank: Rank = None,
    max_rank: Rank = None,
    max_bytes: Bytes = None,
    suite: Annotated[str | None, Query(max_length=130, description="The suite on which scores count.")] = None,
    min_score: Score = None,
) -> Wanted:
    """What a search asks for."""
    return Wanted(
        search=search and search.strip(),
        base=base,
        family=family,
        owner=owner,
        task=task,
        license=license,
        tags=tuple(tag),
        dataset=dataset,
        projection=projection,
        min_rank=min_rank,
        max_rank=max_rank,
        max_bytes=max_bytes,
        suite=suite,
        min_score=min_score,
    )


Looking = Annotated[Wanted, Depends(looking)]


async def require_known(request: Request) -> None:
    """Raises Invalid for a query parameter that the route does not read, or reads once and got twice: whoever wrote it
    meant something by it, and the answer would be to another question."""
    asked = request.query_params
    if not asked or not request.url.path.startswith(ADDRESSES):
        return
    known = dict(_read_by(request.scope["route"].dependant))
    for name in asked:
        if name not in known:
            raise _unknown(name, known)
        if not known[name] and len(asked.getlist(name)) > 1:
            raise Invalid(f"{name} is given more than once: say which is meant.", code="PARAMETER_REPEATED", name=name)


def _read_by(dependant: Dependant) -> Iterator[tuple[str, bool]]:
    """Each parameter that is read, and whether it may come more than once."""
    for field in dependant.query_params:
        yield field.alias, get_origin(field.field_info.annotation) is list
    for each in dependant.dependencies:
        yield from _read_by(each)


def _unknown(name: str, known: Mapping[str, bool]) -> Invalid:
    there_are = f"those that it has are {', '.join(sorted(known))}" if known else "it has none"
    return Invalid(
        f"This address has no parameter {name[:80]!r}: {there_are}.",
        code="PARAMETER_UNKNOWN",
        name=name[:80],
        known=sorted(known),
    )
