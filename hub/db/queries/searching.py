"""Searches over listings: narrowed down, sorted, page by page, and counted.

However many adapters there are, a page costs about as much as it is long. PostgreSQL knows from its statistics
how to go about it. SQLite has none, so it is told: a condition that few listings meet (`FEW` are counted at
most) is where it begins; one that many meet is only checked, while it goes through the listings in the order
that was asked for. A `+` before a column keeps SQLite from using an index on it
(https://www.sqlite.org/optoverview.html, section 2).
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Integer,
    Row,
    Select,
    String,
    and_,
    cast,
    column,
    exists,
    func,
    literal,
    literal_column,
    select,
    table,
    text,
    tuple_,
    union_all,
)
from sqlalchemy.orm import InstrumentedAttribute, Session, contains_eager

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter, Base
from hub.db.models.finding import Listing, ListingScore, ListingTerm
from hub.db.queries.visibility import Viewer, is_listed_for, is_visible

# So many listings are sorted in a few milliseconds, and a condition that more of them meet is met by a
# fiftieth of a hundred thousand.
FEW = 2_000
# So many listings are read for words that many have, in 2 ms, before all that have them are gathered, in 10 to 25.
FIRST = 500


# What listings are counted by, beside their tags.
COUNTED = ("base_id", "family", "task", "license", "rank", "account_id")


# Of SQLite: the words of a listing are there with a space between any two.
_WORDS = table("listing_words", column("rowid", Integer), column("words", String))


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
    """A condition, and the listings that meet it when those can be counted by an index; `surely` are some of these, which
    are counted sooner. `checked` is the same condition in words that keep SQLite from beginning with it, and `read` in
    words for few listings, looked at one by one."""

    clause: ColumnElement[bool]
    checked: ColumnElement[bool]
    meeting: Select[Any] | None = None
    surely: Select[Any] | None = None
    read: ColumnElement[bool] | None = None

    @property
    def of_few(self) -> ColumnElement[bool]:
        return self.checked if self.read is None else self.read


class _Plan(NamedTuple):
    """The conditions in the words that make the database do the least. `of_first` are the same for the first listings in
    order, None where there is nothing to gain by looking at those alone."""

    clauses: list[ColumnElement[bool]]
    of_first: list[ColumnElement[bool]] | None = None


def page(
    session: Session, viewer: Viewer, narrowing: Narrowing, order: Order, *, after: Sequence[Any] | None, limit: int
) -> tuple[list[Found], tuple[Any, ...] | None]:
    """The first `limit` that are visible and as narrowed down, those beyond the keys of `after`; and the keys beyond which
    there are more, None where there are none."""
    plan = _planned(session, narrowing, order)
    in_order = _in_order(_listed(viewer, narrowing, select(Listing.id, *order.columns)), order, after)
    rows: Sequence[Row[Any]] = ()
    if plan.of_first is not None:
        first = Listing.id.in_(_first(viewer, narrowing, order, after))
        rows = session.execute(in_order.where(first, *plan.of_first).limit(limit + 1)).all()
    if len(rows) <= limit:
        rows = session.execute(in_order.where(*plan.clauses).limit(limit + 1)).all()
    # Of the rows and not of what is found of them: an adapter that was hidden in between ends no list.
    more: tuple[Any, ...] | None = tuple(rows[limit - 1][1:]) if len(rows) > limit else None
    return _found(session, viewer, narrowing, rows[:limit]), more


def tags_of(session: Session, listing_ids: Sequence[int]) -> dict[int, tuple[str, ...]]:
    """The tags of these listings, in order."""
    if not listing_ids:
        return {}
    query = select(ListingTerm.listing_id, ListingTerm.value)
    query = query.where(ListingTerm.listing_id.in_(listing_ids), _is_tag(session))
    tags: dict[int, tuple[str, ...]] = {}
    for listing_id, value in session.execute(query.order_by(ListingTerm.value)):
        tags[listing_id] = (*tags.get(listing_id, ()), value)
    return tags


class Counted(NamedTuple):
    """How many listings have which value of a column, and which tag. `more` says whether there are others, not counted."""

    total: int
    more: bool
    values: dict[str, Counter[str]]
    tags: Counter[str]


def count_facets(session: Session, viewer: Viewer, narrowing: Narrowing, *, most: int) -> Counted:
    """How many of the last updated `most` that are as narrowed down have each value of COUNTED, spelled out, and each tag."""
    columns = [getattr(Listing, name) for name in COUNTED]
    query = _listed(viewer, narrowing, select(Listing.id, *columns)).where(*_planned(session, narrowing).clauses)
    found = query.order_by(Listing.id.desc()).limit(most + 1).cte("found")
    among = select(found).order_by(found.c.id.desc()).limit(most).cte("among")
    total = select(literal("found"), literal(None, String), func.count()).select_from(found)
    valued = [
        select(literal(name), cast(among.c[name], String), func.count())
        .where(among.c[name].is_not(None))
        .group_by(among.c[name])
        for name in COUNTED
    ]
    tagged = select(literal("tag"), ListingTerm.value, func.count()).join(among, among.c.id == ListingTerm.listing_id)
    tagged = tagged.where(_is_tag(session)).group_by(ListingTerm.value)
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("found", *COUNTED, "tag")}
    for name, value, count in session.execute(union_all(total, *valued, tagged)):
        counts[name][value] = count
    ((_, there),) = counts.pop("found").items()
    tags = counts.pop("tag")
    return Counted(min(there, most), there > most, counts, tags)


def _is_tag(session: Session) -> ColumnElement[bool]:
    """That a term is a tag, in words that keep SQLite from going through all that are."""
    if not _is_sqlite(session):
        return ListingTerm.kind == "tag"
    guarded: ColumnElement[str] = literal_column("+listing_terms.kind", ListingTerm.kind.type)
    return guarded == "tag"


def _listed(viewer: Viewer, narrowing: Narrowing, query: Select[*tuple[Any, ...]]) -> Select[*tuple[Any, ...]]:
    query = query.select_from(Listing).where(is_listed_for(viewer))
    if narrowing.suite_id is not None:
        query = query.join(ListingScore, ListingScore.adapter_id == Listing.adapter_id)
    return query


def _in_order(query: Select[*tuple[Any, ...]], order: Order, after: Sequence[Any] | None) -> Select[*tuple[Any, ...]]:
    if order is BY_BYTES_PER_POINT:
        query = query.where(ListingScore.bytes_per_point.is_not(None))
    if after is not None:
        query = query.where(order.beyond(after))
    return query.order_by(*order.clauses)


def _first(viewer: Viewer, narrowing: Narrowing, order: Order, after: Sequence[Any] | None) -> Select[*tuple[Any, ...]]:
    """The first listings in order that are visible, whatever else they are."""
    query = _in_order(_listed(viewer, narrowing, select(Listing.id)), order, after)
    if order.key.class_ is ListingScore:
        query = query.where(ListingScore.suite_id == narrowing.suite_id)
    return query.limit(FIRST)


def _planned(session: Session, narrowing: Narrowing, order: Order = BY_CHANGE) -> _Plan:
    conditions = _conditions(session, narrowing)
    if narrowing.suite_id is not None:
        conditions.append(_scored(narrowing.suite_id, narrowing.min_score, is_less_better=narrowing.is_less_better))
    if not _is_sqlite(session):
        return _Plan([each.clause for each in conditions])
    rare = next((each for each in conditions if _meet_few(session, each)), None)
    if rare is not None:
        return _Plan([each.clause if each is rare else each.of_few for each in conditions])
    clauses = [each.checked for each in conditions]
    if order.key.class_ is ListingScore:
        clauses.append(ListingScore.suite_id == narrowing.suite_id)  # whose scores are gone through in this order
    return _Plan(clauses, [each.of_few for each in conditions] if narrowing.words else None)


def _meet_few(session: Session, condition: _Condition) -> bool:
    if condition.meeting is None:
        return False
    return all(_are_few(session, each) for each in (condition.surely, condition.meeting) if each is not None)


def _are_few(session: Session, meeting: Select[Any]) -> bool:
    some = meeting.limit(FEW + 1).subquery()
    return (session.scalar(select(func.count()).select_from(some)) or 0) <= FEW


def _conditions(session: Session, narrowing: Narrowing) -> list[_Condition]:
    found = [_with_term("tag", tag) for tag in narrowing.tags]
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
    if narrowing.words:  # last, for they are the slowest to count
        found.append(_with_words(session, narrowing.words))
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
    if not _is_sqlite(session):
        match = text("words @@ CAST(:words AS tsquery)").bindparams(words=" & ".join(f"'{word}':*" for word in words))
        having = select(literal_column("listing_id", Listing.id.type)).select_from(text("listing_words")).where(match)
        return _Condition(Listing.id.in_(having), Listing.id.in_(having))
    guarded: ColumnElement[Any] = literal_column("+listings.id", Listing.id.type)
    having, whole = _matching([f'"{word}"*' for word in words]), _matching([f'"{word}"' for word in words])
    begun = [func.instr(literal(" ").concat(_WORDS.c.words), f" {word}") > 0 for word in words]
    read = exists().where(_WORDS.c.rowid == Listing.id, *begun)
    return _Condition(Listing.id.in_(having), guarded.in_(having), having, surely=whole, read=read)


def _matching(terms: Sequence[str]) -> Select[int]:
    """The listings that FTS5 finds for all of `terms`."""
    match = text("listing_words MATCH :words").bindparams(words=" ".join(terms))
    return select(literal_column("rowid", Listing.id.type)).select_from(text("listing_words")).where(match)


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
