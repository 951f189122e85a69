"""Searches over listings: narrowed down, sorted, page by page, and counted.

However many adapters there are, a page costs about as much as it is long. PostgreSQL knows from its statistics
how to go about it. SQLite has none, so it is told: a condition that few listings meet (`FEW` are counted at
most) is where it begins; one that many meet is only checked, while it goes through the listings in the order
that was asked for. A `+` before a column keeps SQLite from using an index on it
(https://www.sqlite.org/optoverview.html, section 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    exists,
    func,
    literal_column,
    select,
    text,
    tuple_,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter, Base
from hub.db.models.finding import Listing, ListingScore, ListingTerm
from hub.db.models.versions import Version
from hub.db.queries.visibility import Viewer, is_listed_for, is_visible

# So many listings are sorted in a few milliseconds, and a condition that more of them meet is met by a
# fiftieth of a hundred thousand.
FEW = 2_000


@dataclass(frozen=True)
class Narrowing:
    """What a listing must be. `words` are the beginnings of words; every one, and every tag, must be there, and so must
    each of `marks`, which is a tag or the task."""

    words: tuple[str, ...] = ()
    account_id: int | None = None
    base_ids: tuple[int, ...] | None = None
    family: str | None = None
    task: str | None = None
    license: str | None = None
    projection: str | None = None
    tags: tuple[str, ...] = ()
    dataset: str | None = None
    min_rank: int | None = None
    max_rank: int | None = None
    max_bytes: int | None = None
    suite_id: int | None = None
    min_score: float | None = None
    marks: tuple[str, ...] = ()
    is_gated: bool | None = None
    min_parameters: int | None = None
    max_parameters: int | None = None


@dataclass(frozen=True)
class Order:
    """A sort: `key` first, and `tie` for those of which it is the same. It is an index of a table."""

    key: InstrumentedAttribute[Any]
    tie: InstrumentedAttribute[Any] | None = None
    is_falling: bool = True

    @property
    def columns(self) -> tuple[InstrumentedAttribute[Any], ...]:
        return (self.key,) if self.tie is None else (self.key, self.tie)

    def beyond(self, keys: Sequence[Any]) -> ColumnElement[bool]:
        """The condition on what comes after `keys`."""
        ours, theirs = tuple_(*self.columns), tuple_(*keys)
        return ours < theirs if self.is_falling else ours > theirs

    @property
    def clauses(self) -> list[ColumnElement[Any]]:
        return [each.desc() if self.is_falling else each.asc() for each in self.columns]


BY_CHANGE = Order(Listing.id)
BY_CREATION = Order(Listing.adapter_id)
BY_NAME = Order(Listing.name, is_falling=False)
BY_DOWNLOADS = Order(Listing.downloads, Listing.id)
BY_SCORE = Order(ListingScore.score, ListingScore.adapter_id)
BY_BYTES_PER_POINT = Order(ListingScore.bytes_per_point, ListingScore.adapter_id, is_falling=False)


class Found(NamedTuple):
    """An adapter that a search found. `keys` say where it is in the order; `score` is None without a suite."""

    adapter: Adapter
    listing: Listing
    score: ListingScore | None
    keys: tuple[Any, ...]


@dataclass(frozen=True)
class _Condition:
    """A condition, and the listings that meet it when those can be counted by an index. `checked` is the same
    condition in words that keep SQLite from beginning with it."""

    clause: ColumnElement[bool]
    checked: ColumnElement[bool]
    meeting: Select[Any] | None = field(default=None)


def page(
    session: Session, viewer: Viewer, narrowing: Narrowing, order: Order, *, after: Sequence[Any] | None, limit: int
) -> list[Found]:
    """The first `limit` that are visible and as narrowed down, those beyond the keys of `after`."""
    query = _listed(viewer, narrowing, select(Listing.id, *order.columns))
    for clause in _planned(session, narrowing):
        query = query.where(clause)
    if order is BY_BYTES_PER_POINT:
        query = query.where(ListingScore.bytes_per_point.is_not(None))
    if after is not None:
        query = query.where(order.beyond(after))
    rows = session.execute(query.order_by(*order.clauses).limit(limit)).all()
    return _found(session, viewer, narrowing, rows)


def tags_of(session: Session, listing_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The tags of these listings, in order."""
    query = select(ListingTerm.listing_id, ListingTerm.value).where(
        ListingTerm.listing_id.in_(listing_ids), ListingTerm.kind == "tag"
    )
    tags: dict[int, tuple[str, ...]] = {}
    for listing_id, value in session.execute(query.order_by(ListingTerm.value)):
        tags[listing_id] = (*tags.get(listing_id, ()), value)
    return tags


def facets_of(session: Session, viewer: Viewer, narrowing: Narrowing, *, most: int) -> Sequence[Row[Any]]:
    """Base, family, task, license, rank, owner and id of the last updated `most` that are as narrowed down."""
    columns = (Listing.base_id, Listing.family, Listing.task, Listing.license, Listing.rank, Listing.account_id)
    query = _listed(viewer, narrowing, select(*columns, Listing.id))
    for clause in _planned(session, narrowing):
        query = query.where(clause)
    return session.execute(query.order_by(Listing.id.desc()).limit(most)).all()


def count_tags(session: Session, viewer: Viewer, narrowing: Narrowing, *, most: int) -> dict[str, int]:
    """How many of the last updated `most` that are as narrowed down have each tag."""
    query = _listed(viewer, narrowing, select(Listing.id))
    for clause in _planned(session, narrowing):
        query = query.where(clause)
    among = query.order_by(Listing.id.desc()).limit(most).subquery()
    counted = select(ListingTerm.value, func.count()).join(among, among.c.id == ListingTerm.listing_id)
    rows = session.execute(counted.where(ListingTerm.kind == "tag").group_by(ListingTerm.value))
    return {row[0]: row[1] for row in rows}


def _listed(viewer: Viewer, narrowing: Narrowing, query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    query = query.select_from(Listing).where(is_listed_for(viewer))
    if narrowing.suite_id is not None:
        on_suite = (ListingScore.adapter_id == Listing.adapter_id) & (ListingScore.suite_id == narrowing.suite_id)
        query = query.join(ListingScore, on_suite)
    return query


def _planned(session: Session, narrowing: Narrowing) -> list[ColumnElement[bool]]:
    """The conditions, each in the words that make the database do the least."""
    conditions = _conditions(session, narrowing)
    if not _is_sqlite(session):
        return [each.clause for each in conditions]
    rare = next((each for each in conditions if each.meeting is not None and _are_few(session, each.meeting)), None)
    return [each.clause if each is rare else each.checked for each in conditions]


def _are_few(session: Session, meeting: Select[Any]) -> bool:
    some = meeting.limit(FEW + 1).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) <= FEW


def _conditions(session: Session, narrowing: Narrowing) -> list[_Condition]:
    found = []
    if narrowing.words:
        found.append(_with_words(session, narrowing.words))
    found += [_with_term("tag", tag) for tag in narrowing.tags]
    if narrowing.dataset is not None:
        found.append(_with_term("dataset", narrowing.dataset))
    equal: list[tuple[InstrumentedAttribute[Any], Any]] = [
        (Listing.account_id, narrowing.account_id),
        (Listing.family, narrowing.family),
        (Listing.task, narrowing.task),
        (Listing.license, narrowing.license),
        (Listing.projection, narrowing.projection),
    ]
    found += [_equal(column, (value,)) for column, value in equal if value is not None]
    if narrowing.base_ids is not None:
        found.append(_equal(Listing.base_id, narrowing.base_ids))
    found += [_marked(mark) for mark in narrowing.marks]
    return [*found, *(_Condition(each, each) for each in _bounds(narrowing))]


def _bounds(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    bounds = []
    if narrowing.min_rank is not None:
        bounds.append(Listing.rank >= narrowing.min_rank)
    if narrowing.max_rank is not None:
        bounds.append(Listing.rank <= narrowing.max_rank)
    if narrowing.max_bytes is not None:
        bounds.append(Listing.size_bytes <= narrowing.max_bytes)
    if narrowing.min_score is not None:
        bounds.append(ListingScore.score >= narrowing.min_score)
    if narrowing.is_gated is not None:
        is_gated = Adapter.gate.is_not(None) if narrowing.is_gated else Adapter.gate.is_(None)
        bounds.append(exists().where(Adapter.id == Listing.adapter_id, is_gated))
    bounds += _sizes(narrowing)
    return bounds


def _equal(column: InstrumentedAttribute[Any], values: tuple[Any, ...]) -> _Condition:
    guarded: ColumnElement[Any] = literal_column(f"+listings.{column.key}", column.type)
    return _Condition(column.in_(values), guarded.in_(values), select(Listing.id).where(column.in_(values)))


def _with_term(kind: str, value: str) -> _Condition:
    is_it = ListingTerm.kind == kind, ListingTerm.value == value
    having = select(ListingTerm.listing_id).where(*is_it)
    checked = exists().where(*is_it, ListingTerm.listing_id == Listing.id)
    return _Condition(Listing.id.in_(having), checked, having)


def _sizes(narrowing: Narrowing) -> list[ColumnElement[bool]]:
    """Vectors and head together, counted in numbers: a number takes as many bytes as a parameter does."""
    count = (Version.vector_bytes + Version.head_bytes) // (Version.vector_bytes // Version.parameters)
    wanted = []
    if narrowing.min_parameters is not None:
        wanted.append(count >= narrowing.min_parameters)
    if narrowing.max_parameters is not None:
        wanted.append(count <= narrowing.max_parameters)
    return [exists().where(Version.id == Listing.version_id, *wanted)] if wanted else []


def _marked(mark: str) -> _Condition:
    """The mark is the task of the listing, or a tag of it."""
    tagged = exists().where(ListingTerm.kind == "tag", ListingTerm.value == mark, ListingTerm.listing_id == Listing.id)
    either = (Listing.task == mark) | tagged
    return _Condition(either, either)


def _with_words(session: Session, words: Sequence[str]) -> _Condition:
    """Each of `words`, which are letters and digits alone, begins a word of the listing."""
    guarded: ColumnElement[Any] = literal_column("+listings.id", Listing.id.type)
    if _is_sqlite(session):
        match = text("listing_words MATCH :words").bindparams(words=" ".join(f'"{word}"*' for word in words))
        having = select(literal_column("rowid", Listing.id.type)).select_from(text("listing_words")).where(match)
    else:
        match = text("words @@ CAST(:words AS tsquery)").bindparams(words=" & ".join(f"'{word}':*" for word in words))
        having = select(literal_column("listing_id", Listing.id.type)).select_from(text("listing_words")).where(match)
    return _Condition(Listing.id.in_(having), guarded.in_(having), having)


def _found(session: Session, viewer: Viewer, narrowing: Narrowing, rows: Sequence[Row[Any]]) -> list[Found]:
    """The adapters of these listings. What has been hidden meanwhile is not among them, whatever is listed."""
    on_suite = (ListingScore.adapter_id == Listing.adapter_id) & (ListingScore.suite_id == narrowing.suite_id)
    query = (
        select(Listing, Adapter, ListingScore)
        .join(Adapter, Adapter.id == Listing.adapter_id)
        .join(Account, Account.id == Adapter.account_id)
        .join(Base, Base.id == Adapter.base_id)
        .outerjoin(ListingScore, on_suite)
        .options(contains_eager(Adapter.account), contains_eager(Adapter.base))
        .where(Listing.id.in_([row[0] for row in rows]), is_visible(viewer))
    )
    by_id = {listing.id: (adapter, listing, score) for listing, adapter, score in session.execute(query)}
    return [Found(*by_id[row[0]], tuple(row[1:])) for row in rows if row[0] in by_id]


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
