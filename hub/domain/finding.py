"""Finding adapters: what they are listed by, searches, and what there is to narrow one down to."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from hub.auth.policy import Principal, viewer_of
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Version
from hub.db.queries import accounts, bases, blobs, listings, searching, versions
from hub.db.queries.searching import Found, Narrowing, Order
from hub.domain import paging
from hub.domain.cards import CardFacts, checked_tags, is_name, read_facts
from hub.domain.evaluations import find_suite
from hub.domain.shaping import adapter_view
from hub.domain.views.adapters import FacetsView, FacetValue, FoundView
from hub.domain.views.page import Page
from hub.errors import Invalid
from vera.manifest import CARD_FILE, MANIFEST_FILE
from vera.metrics import LOWER_IS_BETTER

Sort = Literal["updated", "downloads", "score", "bytes-per-point", "name"]
# The last is for clients of the other wire.
SortedBy = Sort | Literal["created"]
_ORDERS: Mapping[SortedBy, tuple[Order, tuple[type, ...]]] = {
    "updated": (searching.BY_CHANGE, (int,)),
    "created": (searching.BY_CREATION, (int,)),
    "downloads": (searching.BY_DOWNLOADS, (int, int)),
    "score": (searching.BY_SCORE, (float, int)),
    "bytes-per-point": (searching.BY_BYTES_PER_POINT, (float, int)),
    "name": (searching.BY_NAME, (str,)),
}
# Of more than these, the last updated are counted: every one counted is one read.
MOST_COUNTED = 10_000
_VALUES_PER_FACET = 20

# SQLite's tokenizer takes these letters of two scripts for signs, and finds nothing that has one in the middle of a word.
_SIGNS = "\u19b0-\u19c0\u19c8\u19c9\u1cf2\u1cf3"
_WORD = re.compile(rf"[^\W_{_SIGNS}]+")
_MAX_WORDS = 2_000
_MAX_WORD = 40
_TAG_OF_HTML = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Wanted:
    """What somebody looks for. `base` is a name or a fingerprint, `dataset` a name or a digest; `suite` says on
    which one scores count. All of `tags` must be there, and each of `marks` as a tag or as the task."""

    search: str | None = None
    base: str | None = None
    family: str | None = None
    owner: str | None = None
    task: str | None = None
    license: str | None = None
    tags: tuple[str, ...] = ()
    dataset: str | None = None
    projection: str | None = None
    min_rank: int | None = None
    max_rank: int | None = None
    max_bytes: int | None = None
    suite: str | None = None
    min_score: float | None = None
    marks: tuple[str, ...] = ()
    is_gated: bool | None = None
    min_parameters: int | None = None
    max_parameters: int | None = None


def search(
    session: Session,
    reader: Principal | None,
    wanted: Wanted,
    *,
    sort: SortedBy = "updated",
    cursor: str | None = None,
    limit: int = 50,
) -> Page[FoundView]:
    """The adapters that `reader` may see and that are as wanted; sorted by score, the best first. Those without a score
    are in no list sorted by it.

    Raises Invalid for a cursor that this list did not give, for scores without a suite and for points where less is
    better, and NotFound for a
    suite that is not there.
    """
    _, types = _ORDERS[sort]
    if wanted.suite is None and (sort in ("score", "bytes-per-point") or wanted.min_score is not None):
        raise Invalid("Scores are those on a suite: say which one, as in suite=demo/topics.", code="SUITE_MISSING")
    after = paging.decode(session, cursor, sort, *types)
    narrowing = _narrowed(session, wanted)
    if narrowing is None:
        return Page(())
    order = _order(sort, narrowing)
    rows, more = searching.page(session, viewer_of(reader), narrowing, order, after=after, limit=limit)
    tags = searching.tags_of(session, [row.listing.id for row in rows])
    found = tuple(_found_view(row, tags=tags, has_points=not narrowing.is_less_better) for row in rows)
    return Page(found, None if more is None else paging.encode(session, sort, *more))


def facets(session: Session, reader: Principal | None, wanted: Wanted) -> FacetsView:
    """What the adapters that are as wanted have in common, most frequent first. Beyond MOST_COUNTED, those last
    updated are counted and the answer says so. Raises NotFound and Invalid as `search` does."""
    if wanted.suite is None and wanted.min_score is not None:
        raise Invalid("Scores are those on a suite: say which one, as in suite=demo/topics.", code="SUITE_MISSING")
    narrowing = _narrowed(session, wanted)
    if narrowing is None:
        return FacetsView(
            counted=0, is_complete=True, bases=(), families=(), tasks=(), licenses=(), ranks=(), tags=(), owners=()
        )
    counted = searching.count_facets(session, viewer_of(reader), narrowing, most=MOST_COUNTED)
    values = counted.values
    names = bases.names_of(session, {int(each) for each in values["base_id"]})
    owners = accounts.names_of(session, {int(each) for each in values["account_id"]})
    of_bases: Counter[str] = Counter()
    for base_id, count in values["base_id"].items():  # a name may be that of several bases
        of_bases[names[int(base_id)][0]] += count
    return FacetsView(
        counted=counted.total,
        is_complete=not counted.more,
        bases=_most_frequent(of_bases),
        families=_most_frequent(values["family"]),
        tasks=_most_frequent(values["task"]),
        licenses=_most_frequent(values["license"]),
        ranks=_most_frequent(values["rank"]),
        tags=_most_frequent(counted.tags),
        owners=_most_frequent({owners[int(each)]: count for each, count in values["account_id"].items()}),
    )


# -- What adapters are listed by ------------------------------------------------------------------


def relist(session: Session, adapter: Adapter, *, is_change: bool = False) -> None:
    """Lists the adapter as what its latest version is, or the newest that can be had while none is the latest; one
    without either is in no list. A change puts it first among the last updated; else it keeps its place."""
    shown = versions.newest_current(session, adapter.id) or versions.newest_served(session, adapter.id)
    if shown is not None:
        _list_version(session, adapter, shown, is_change=is_change)
    elif (listing := listings.of_adapter(session, adapter.id)) is not None:
        listings.remove(session, listing)


def list_new(
    session: Session,
    adapter: Adapter,
    version: Version,
    *,
    name: str,
    base_name: str,
    manifest: Mapping[str, Any],
    facts: CardFacts,
) -> None:
    """`relist` for a version that was just added and is the latest, from what its push has at hand: `name` is
    owner/name, and `facts` are those of its card."""
    listed, words, terms = _listing_of(
        adapter, version, name, base_name, manifest=manifest, facts=facts, card_html=version.card_html
    )
    if version.number == 1:
        listings.put_first(session, listed, words=words, terms=terms)
    else:
        listings.put(session, listed, words=words, terms=terms, is_change=True)


def list_unlisted(
    session: Session, limit: int, *, after: tuple[datetime, int] | None = None
) -> tuple[datetime, int] | None:
    """Lists up to `limit` adapters that have no listing, as an earlier release or a backup left them, those beyond
    `after`. Gives what the next call goes on after, None at the end."""
    left = listings.unlisted(session, limit, after=after)
    for adapter in left:
        relist(session, adapter, is_change=True)
    return (left[-1].updated_at, left[-1].id) if len(left) == limit else None


def words_of(texts: Iterable[str]) -> list[str]:
    """The words of `texts`, each once, at most 2,000: in small letters and without accents, so that what is
    looked for and what is found are cut in the same way whatever the database."""
    return list(dict.fromkeys(_words(texts)))[:_MAX_WORDS]


def family_of(base_name: str) -> str:
    """The family of a base: the letters that its model's name begins with (`llama` of `meta-llama/Llama-2-7b`)."""
    words = re.findall(r"[a-z]+", base_name.rpartition("/")[2].lower())
    return (words[0] if words else base_name.lower())[:64]


def _list_version(session: Session, adapter: Adapter, version: Version, *, is_change: bool) -> None:
    manifest, card = _files_of(session, version)
    base_name, _ = bases.names_of(session, [version.base_id])[version.base_id]
    name = f"{accounts.names_of(session, [adapter.account_id])[adapter.account_id]}/{adapter.name}"
    card_html = versions.card_of(session, version.id)
    listed, words, terms = _listing_of(
        adapter, version, name, base_name, manifest=manifest, facts=read_facts(card), card_html=card_html
    )
    listings.put(session, listed, words=words, terms=terms, is_change=is_change)


def _listing_of(
    adapter: Adapter,
    version: Version,
    name: str,
    base_name: str,
    *,
    manifest: Mapping[str, Any],
    facts: CardFacts,
    card_html: str,
) -> tuple[dict[str, Any], list[str], dict[str, tuple[str, ...]]]:
    """The row of a listing, the words it is found by, and its terms."""
    facts = _with_training(facts, manifest.get("training", {}))
    task = manifest.get("task") or {}
    license_name = (manifest.get("license") or facts.license or "").lower()[:64] or None
    listed = {
        "adapter_id": adapter.id,
        "account_id": adapter.account_id,
        "version_id": version.id,
        "base_id": version.base_id,
        "name": name,
        "is_private": adapter.is_private,
        "family": family_of(base_name),
        "task": task.get("kind"),
        "license": license_name,
        "rank": version.rank,
        "vector_bytes": version.vector_bytes,
        "head_bytes": version.head_bytes,
        "size_bytes": version.size_bytes,
        # Each takes as many bytes as one of the vectors' does.
        "numbers": (version.vector_bytes + version.head_bytes) // (version.vector_bytes // version.parameters),
        "projection": manifest["projection"]["digest"],
    }
    said = [
        name,
        base_name,
        task.get("kind") or "",
        license_name or "",
        *task.get("labels", ()),
        *facts.tags,
        *facts.datasets,
        _TAG_OF_HTML.sub(" ", card_html),
    ]
    return listed, words_of(said), {"tag": facts.tags, "dataset": facts.datasets}


def _words(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        plain = text.casefold()
        if not plain.isascii():
            apart = unicodedata.normalize("NFKD", plain)
            # Of a sign such as ™, which has no small one, the letters are capitals.
            plain = "".join(char for char in apart if not unicodedata.combining(char)).casefold()
        yield from (word[:_MAX_WORD] for word in _WORD.findall(plain))


def _files_of(session: Session, version: Version) -> tuple[dict[str, Any], str]:
    """The manifest and the card, which are always in the database."""
    hashes = {file.path: file.sha256 for file in versions.files_of(session, version.id)}
    manifest, card = (blobs.find(session, hashes[path]) for path in (MANIFEST_FILE, CARD_FILE))
    assert manifest is not None
    assert manifest.data is not None
    text = card.data.decode() if card is not None and card.data is not None else ""
    return json.loads(manifest.data), text


def _with_training(facts: CardFacts, training: Mapping[str, object]) -> CardFacts:
    """The facts with what the manifest says of its training: its tags, and the data by name and by digest."""
    said = training.get("tags")
    tags, _ = checked_tags(
        [*facts.tags, *(each for each in said if isinstance(each, str))] if isinstance(said, list) else facts.tags
    )
    data = [
        each for each in (training.get("data"), training.get("data_digest")) if isinstance(each, str) and is_name(each)
    ]
    return replace(facts, tags=tags, datasets=tuple(dict.fromkeys([*facts.datasets, *data])))


# -- From what is wanted to rows and back ---------------------------------------------------------


def _order(sort: SortedBy, narrowing: Narrowing) -> Order:
    """Raises Invalid for bytes per point on a suite of whose score less is better: a worse one would take fewer."""
    if not narrowing.is_less_better or sort not in ("score", "bytes-per-point"):
        return _ORDERS[sort][0]
    if sort == "score":
        return searching.BY_LOWEST_SCORE
    raise Invalid("On this suite less is better, so a point takes nothing: sort by score.", code="SORT_MEANINGLESS")


def _narrowed(session: Session, wanted: Wanted) -> Narrowing | None:
    """What the listings must be; None when it is clear without looking that there are none."""
    words = tuple(words_of([wanted.search or ""]))
    account_id = accounts.id_of(session, wanted.owner) if wanted.owner else None
    base_ids = tuple(bases.ids_of(session, wanted.base)) if wanted.base else None
    looks_for_signs = bool(wanted.search) and not words  # no word is made of those alone
    suite = find_suite(session, wanted.suite) if wanted.suite else None
    if looks_for_signs or (wanted.owner and account_id is None) or base_ids == ():
        return None
    return Narrowing(
        words=words,
        account_id=account_id,
        base_ids=base_ids,
        family=wanted.family,
        task=wanted.task,
        license=wanted.license and wanted.license.lower(),
        projection=wanted.projection,
        tags=tuple(tag.strip().lower() for tag in wanted.tags),
        dataset=wanted.dataset,
        min_rank=wanted.min_rank,
        max_rank=wanted.max_rank,
        max_bytes=wanted.max_bytes,
        suite_id=suite.id if suite else None,
        min_score=wanted.min_score,
        is_less_better=suite is not None and suite.metric in LOWER_IS_BETTER,
        marks=tuple(mark.strip().lower() for mark in wanted.marks),
        is_gated=wanted.is_gated,
        min_parameters=wanted.min_parameters,
        max_parameters=wanted.max_parameters,
    )


def _found_view(found: Found, *, tags: Mapping[int, tuple[str, ...]], has_points: bool) -> FoundView:
    listing, score = found.listing, found.score
    return FoundView(
        **vars(adapter_view(found.adapter)),
        rank=listing.rank,
        vector_bytes=listing.vector_bytes,
        head_bytes=listing.head_bytes,
        size_bytes=listing.size_bytes,
        license=listing.license,
        tags=tags.get(listing.id, ()),
        downloads=listing.downloads,
        score=score.score if score else None,
        bytes_per_point=score.bytes_per_point if score and has_points else None,
    )


def _most_frequent(counts: Mapping[str, int]) -> tuple[FacetValue, ...]:
    """Of equals numbers by their size, as ranks are read, and the rest by their letters."""
    first = sorted(counts.items(), key=lambda each: (-each[1], int(each[0]) if each[0].isdecimal() else 0, each[0]))
    return tuple(FacetValue(value, count) for value, count in first[:_VALUES_PER_FACET])
