"""Listings, kept: one row per adapter with its words, tags, data sets and scores. `searching` reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Float,
    Select,
    bindparam,
    case,
    cast,
    delete,
    exists,
    insert,
    literal,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.orm import Session

from hub.db.models.adapters import Adapter
from hub.db.models.evaluating import Evaluation, Suite
from hub.db.models.finding import Listing, ListingScore, ListingTerm
from hub.db.models.versions import Version
from hub.db.prepared import Prepared
from hub.db.queries import downloads
from hub.db.queries.inserting import insert_from
from vera.metrics import ADVISORY

_ADDED = Prepared(insert(Listing.__table__).returning(Listing.__table__.c.id))  # type: ignore[arg-type]  # it is a Table
_TERMS_ADDED = Prepared(insert(ListingTerm.__table__))  # type: ignore[arg-type]
_WORDS_OF_SQLITE = Prepared(text("INSERT INTO listing_words (rowid, words) VALUES (:id, :words)"))
_WORDS_OF_POSTGRES = text(
    "INSERT INTO listing_words (listing_id, words) VALUES (:id, array_to_tsvector(CAST(:words AS text[])))"
)

# Made once, past the unit of work: it is for every download.
_LISTINGS, _VERSIONS = Listing.__table__.c, Version.__table__.c
_DOWNLOADED = (
    update(Listing.__table__)  # type: ignore[arg-type]  # it is a Table
    .where(
        _LISTINGS.adapter_id
        == select(_VERSIONS.adapter_id).where(_VERSIONS.id == bindparam("of_version")).scalar_subquery()
    )
    .values(downloads=_LISTINGS.downloads + bindparam("more"))
)


def put(
    session: Session,
    facts: Mapping[str, Any],
    *,
    words: Iterable[str],
    terms: Mapping[str, Iterable[str]],
    is_change: bool,
) -> None:
    """Writes the listing of `facts["adapter_id"]` in the place of the one there was. Only a change gives it a new
    id, and with it a new place among the last updated."""
    known = of_adapter(session, int(facts["adapter_id"]))
    kept: dict[str, int] = {}
    if known is not None:
        kept = {} if is_change else {"id": known.id}
        remove(session, known)
    counted = known.downloads if known is not None else downloads.total(session, int(facts["adapter_id"]))
    listing = Listing(**facts, **kept, downloads=counted)
    session.add(listing)
    session.flush()
    _keep_found_by(session, listing.id, words, terms)
    _keep_scores(session, listing)


def put_first(
    session: Session, facts: Mapping[str, Any], *, words: Iterable[str], terms: Mapping[str, Iterable[str]]
) -> None:
    """`put` for the first version of an adapter, which nobody has fetched or evaluated yet."""
    listing_id = _ADDED.scalar(session, {**facts, "downloads": 0})
    _keep_found_by(session, listing_id, words, terms)


def of_adapter(session: Session, adapter_id: int) -> Listing | None:
    return session.scalar(select(Listing).where(Listing.adapter_id == adapter_id))


def remove(session: Session, listing: Listing) -> None:
    """Takes the adapter out of every list."""
    key = "rowid" if _is_sqlite(session) else "listing_id"
    session.execute(text(f"DELETE FROM listing_words WHERE {key} = :id"), {"id": listing.id})  # noqa: S608  # one of two names
    session.execute(delete(ListingTerm).where(ListingTerm.listing_id == listing.id))
    session.execute(delete(ListingScore).where(ListingScore.adapter_id == listing.adapter_id))
    session.delete(listing)
    session.flush()


def set_private(session: Session, adapter_id: int, *, is_private: bool) -> None:
    session.execute(update(Listing).where(Listing.adapter_id == adapter_id).values(is_private=is_private))


def hold_adapter_of(session: Session, evaluation_id: int) -> None:
    """Locks the adapter of an evaluation until the transaction ends, as a push to it does: what is listed stays so."""
    its_own = select(Adapter.id).join(Version, Version.adapter_id == Adapter.id)
    its_own = its_own.join(Evaluation, Evaluation.version_id == Version.id).where(Evaluation.id == evaluation_id)
    session.execute(its_own.with_for_update(of=Adapter))


def add_score(session: Session, evaluation_id: int) -> None:
    """Lists the score of an evaluation that is done, when it is of the version that is listed."""
    hold_adapter_of(session, evaluation_id)
    of_listed = select(Listing).join(Evaluation, Evaluation.version_id == Listing.version_id)
    listing = session.scalar(of_listed.where(Evaluation.id == evaluation_id))
    if listing is not None:
        session.execute(delete(ListingScore).where(ListingScore.adapter_id == listing.adapter_id))
        _keep_scores(session, listing)


def add_downloads(session: Session, version_id: int, count: int) -> None:
    """Counts downloads of a version, the listed one or another, for its adapter."""
    session.execute(_DOWNLOADED, {"of_version": version_id, "more": count})


def count_numbers(session: Session) -> None:
    """Says of the listings of earlier releases how many numbers they are."""
    counted = (Version.vector_bytes + Version.head_bytes) // (Version.vector_bytes // Version.parameters)
    of_version = select(counted).where(Version.id == Listing.version_id).scalar_subquery()
    session.execute(update(Listing).where(Listing.numbers.is_(None)).values(numbers=of_version))


def unlisted(session: Session, limit: int, *, after: tuple[datetime, int] | None) -> Sequence[Adapter]:
    """Adapters that have versions and no listing, the earliest changed first, those beyond the (updated_at, id)
    of `after`."""
    listed = exists().where(Listing.adapter_id == Adapter.id)
    query = select(Adapter).where(~listed, Adapter.last_number > 0).order_by(Adapter.updated_at, Adapter.id)
    if after is not None:
        query = query.where(tuple_(Adapter.updated_at, Adapter.id) > tuple_(*after))
    return session.scalars(query.limit(limit)).all()


def _keep_found_by(session: Session, listing_id: int, words: Iterable[str], terms: Mapping[str, Iterable[str]]) -> None:
    rows = [{"kind": kind, "value": value, "listing_id": listing_id} for kind in terms for value in terms[kind]]
    if rows:
        _TERMS_ADDED.run(session, *rows)
    _keep_words(session, listing_id, list(words))


def _keep_words(session: Session, listing_id: int, words: list[str]) -> None:
    if _is_sqlite(session):
        _WORDS_OF_SQLITE.run(session, {"id": listing_id, "words": " ".join(words)})
    else:
        session.execute(_WORDS_OF_POSTGRES, {"id": listing_id, "words": words})


def _keep_scores(session: Session, listing: Listing) -> None:
    size = cast(literal(listing.vector_bytes + listing.head_bytes), Float)
    per_point = case((Evaluation.score > 0, size / (100 * Evaluation.score)), else_=None)
    done = select(literal(listing.adapter_id), Evaluation.suite_id, Evaluation.score, per_point).where(
        Evaluation.version_id == listing.version_id, Evaluation.state == "done", Evaluation.suite_id.in_(_suites())
    )
    insert_from(session, ListingScore, ["adapter_id", "suite_id", "score", "bytes_per_point"], done)


def _suites() -> Select[int]:
    """The definitions that scores are listed for: one version may have been evaluated by an earlier one too."""
    return select(Suite.id).where(Suite.is_current, Suite.metric.not_in(ADVISORY))


def _is_sqlite(session: Session) -> bool:
    return session.get_bind().dialect.name == "sqlite"
