"""Searches over listings: narrowed down, sorted, page by page, and counted.

However many adapters there are, a page costs about as much as it is long. PostgreSQL knows from its statistics
how to go about it. SQLite has none, so it is told: a condition that few listings meet (`FEW` are counted at
most) is where it begins; one that many meet is only checked, while it goes through the listings in the order
that was asked for. A `+` before a column keeps SQLite from using an index on it
(https://www.sqlite.org/optoverview.html, section 2).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
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
    # Of the suite: the best score is the lowest, and `min_score` the highest that will do.
    is_less_better: bool = False
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
BY_LOWEST_SCORE = Order(ListingScore.score, ListingScore.adapter_id, is_falling=False)
BY_BYTES_PER_POINT = Order(ListingScore.bytes_per_point, ListingScore.adapter_id, is_falling=False)


class Found(NamedTuple):
    """An adapter that a search found. `score` is None without a suite."""

    adapter: Adapter
    listing: Listing
    score: ListingScore | None


@dataclass(frozen=True)
class _Condition:
    """A condition, and the listings that meet it when those can be counted by an index. `checked` is the same
    condition in words that keep SQLite from beginning with it."""

    clause: ColumnElement[bool]
    checked: ColumnElement[bool]
    meeting: Select[Any] | None = field(default=None)


def page(
    session: Session, viewer: Viewer, narrowing: Narrowing, order: Order, *, after: Sequence[Any] | None, limit: int
) -> tuple[list[Found], tuple[Any, ...] | None]:
    """The first `limit` that are visible and as narrowed down, those beyond the keys of `after`; and the keys beyond which
    there are more, None where there are none."""
    query = _listed(viewer, narrowing, select(Listing.id, *order.columns))
    for clause in _planned(session, narrowing, order):
        query = query.where(clause)
    if order is BY_BYTES_PER_POINT:
        query = query.where(ListingScore.bytes_per_point.is_not(None))
    if after is not None:
        query = query.where(order.beyond(after))
    rows = session.execute(query.order_by(*order.clauses).limit(limit + 1)).all()
    # Of the rows and not of what is found of them: an adapter that was hidden in between ends no list.
    more = tuple(rows[limit - 1][1:]) if len(rows) > limit else None
    return _found(session, viewer, narrowing, rows[:limit]), more


def tags_of(session: Session, listing_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The tags of these listings, in order."""
    if not listing_ids:
        return {}
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
        query = query.join(ListingScore, ListingScore.adapter_id == Listing.adapter_id)
    return query


def _planned(session: Session, narrowing: Narrowing, order: Order = BY_CHANGE) -> list[ColumnElement[bool]]:
    """The conditions, each in the words that make the database do the least."""
    conditions = _conditions(session, narrowing)
    if narrowing.suite_id is not None:
        conditions.append(_scored(narrowing.suite_id, narrowing.min_score, is_less_better=narrowing.is_less_better))
    if not _is_sqlite(session):
        return [each.clause for each in conditions]
    rare = next((each for each in conditions if each.meeting is not None and _are_few(session, each.meeting)), None)
    clauses = [each.clause if each is rare else each.checked for each in conditions]
    if rare is None and order.key.class_ is ListingScore:
        clauses.append(ListingScore.suite_id == narrowing.suite_id)  # whose scores are gone through in this order
    return clauses


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
    found += _within(session, Listing.rank, narrowing.min_rank, narrowing.max_rank)
    found += _within(session, Listing.size_bytes, None, narrowing.max_bytes)
    found += _within(session, Listing.numbers, narrowing.min_parameters, narrowing.max_parameters)
    if narrowing.is_gated is not None:
        found.append(_gated(is_gated=narrowing.is_gated))
    return found


def _within(
    session: Session, column: InstrumentedAttribute[Any], least: int | None, most: int | None
) -> list[_Condition]:
    """That the column is from `least` to `most`, where either is said."""

    def between(place: ColumnElement[int]) -> ColumnElement[bool]:
        bounds = [place >= least] if least is not None else []
        return and_(*bounds, *([place <= most] if most is not None else []))

    if least is most is None:
        return []
    clause, having = between(column), select(Listing.id).where(between(column))  # type: ignore[arg-type]  # an attribute is a column
    guarded: ColumnElement[int] = literal_column(f"+listings.{column.key}", column.type)
    # SQLite takes any range for a wide one, and goes through all of a sort rather than begin with it.
    return [_Condition(Listing.id.in_(having) if _is_sqlite(session) else clause, between(guarded), having)]


def _scored(suite_id: int, min_score: float | None, *, is_less_better: bool) -> _Condition:
    """That the listing's version has a score on the suite, and one that is high enough."""
    suite: ColumnElement[int] = literal_column("+listing_scores.suite_id", ListingScore.suite_id.type)
    score: ColumnElement[float] = literal_column("+listing_scores.score", ListingScore.score.type)
    clause, checked = ListingScore.suite_id == suite_id, suite == suite_id
    if min_score is not None:
        good_enough = operator.le if is_less_better else operator.ge
        clause, checked = clause & good_enough(ListingScore.score, min_score), checked & good_enough(score, min_score)
    return _Condition(clause, checked, select(ListingScore.adapter_id).where(clause))


def _gated(*, is_gated: bool) -> _Condition:
    """That the files of the adapter are given to whom its owners let in, or to everybody. Few are gated."""
    gated = Adapter.gate.is_not(None)
    checked = exists().where(Adapter.id == Listing.adapter_id, gated)
    if not is_gated:
        return _Condition(~checked, ~checked)
    having = select(Adapter.id).where(gated)
    return _Condition(Listing.adapter_id.in_(having), checked, having)


def _equal(column: InstrumentedAttribute[Any], values: tuple[Any, ...]) -> _Condition:
    guarded: ColumnElement[Any] = literal_column(f"+listings.{column.key}", column.type)
    return _Condition(column.in_(values), guarded.in_(values), select(Listing.id).where(column.in_(values)))


def _with_term(kind: str, value: str) -> _Condition:
    is_it = ListingTerm.kind == kind, ListingTerm.value == value
    having = select(ListingTerm.listing_id).where(*is_it)
    checked = exists().where(*is_it, ListingTerm.listing_id == Listing.id)
    return _Condition(Listing.id.in_(having), checked, having)


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
    return [Found(*by_id[row[0]]) for row in rows if row[0] in by_id]


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
