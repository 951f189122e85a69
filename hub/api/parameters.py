"""Query parameters that several routes share."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from hub.db.queries.evaluations import Narrowed
from hub.domain.finding import Wanted
from hub.domain.paging import MAX_LIMIT

Cursor = Annotated[str | None, Query(max_length=600, description="`next` of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Search = Annotated[str | None, Query(max_length=200)]
Tags = Annotated[list[str], Query(max_length=8, description="Tags, all of which it must have.")]
Rank = Annotated[int | None, Query(ge=1, le=1 << 31)]
Bytes = Annotated[int | None, Query(ge=1, lt=1 << 63)]
Score = Annotated[float | None, Query(ge=-1, le=1, allow_inf_nan=False)]


def narrowing(
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


def looking(
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
