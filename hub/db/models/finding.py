"""What the search reads, made again from the other tables whenever it is needed."""

from __future__ import annotations

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from hub.db.models.table import DERIVED, DIGEST, Table


class Listing(Table):
    """What an adapter is found, narrowed down and sorted by: facts of its latest version, in one narrow row, so
    that no search reads more than this table. Every push writes it anew, so that its id is the order of changes.

    The words it is found by are in `listing_words`, which is an FTS5 table on SQLite (its rowid is the id) and
    a table with a tsvector on PostgreSQL (`hub.db.queries.listings`).
    """

    __tablename__ = "listings"
    __table_args__ = (
        Index("ix_listings_account_id_id", "account_id", "id"),
        Index("ix_listings_base_id_id", "base_id", "id"),
        Index("ix_listings_family_id", "family", "id"),
        Index("ix_listings_task_id", "task", "id"),
        Index("ix_listings_license_id", "license", "id"),
        Index("ix_listings_projection_id", "projection", "id"),
        Index("ix_listings_downloads_id", "downloads", "id"),
        Index("ix_listings_rank_id", "rank", "id"),
        Index("ix_listings_size_bytes_id", "size_bytes", "id"),
        Index("ix_listings_numbers_id", "numbers", "id"),
        DERIVED,
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    base_id: Mapped[int] = mapped_column(ForeignKey("bases.id"))
    # owner/name
    name: Mapped[str] = mapped_column(String(104), unique=True)
    is_private: Mapped[bool]
    family: Mapped[str] = mapped_column(String(64))
    task: Mapped[str | None] = mapped_column(String(64))
    license: Mapped[str | None] = mapped_column(String(64))
    rank: Mapped[int]
    vector_bytes: Mapped[int]
    head_bytes: Mapped[int]
    size_bytes: Mapped[int]
    # How many numbers vectors and head are. NULL where a process of the release before this column has listed it, until
    # a hub starts again.
    numbers: Mapped[int | None]
    # The digest of the pair of matrices, whether a recipe gives it or it is stored.
    projection: Mapped[str] = mapped_column(DIGEST)
    downloads: Mapped[int] = mapped_column(server_default=text("0"))


class ListingTerm(Table):
    """A tag of a listing, or a data set that it names."""

    __tablename__ = "listing_terms"
    __table_args__ = (CheckConstraint("kind IN ('tag', 'dataset')", name="kind"), DERIVED)

    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    value: Mapped[str] = mapped_column(String(200), primary_key=True)
    listing_id: Mapped[int] = mapped_column(ForeignKey("listings.id"), primary_key=True, index=True)


class ListingScore(Table):
    """What the listed version of an adapter scores on one definition of a suite. `bytes_per_point` is its vectors
    and head over the score in percent: NULL for a score that is not above zero, and read by nobody where less is better."""

    __tablename__ = "listing_scores"
    __table_args__ = (
        Index("ix_listing_scores_score", "suite_id", "score", "adapter_id"),
        Index("ix_listing_scores_bytes_per_point", "suite_id", "bytes_per_point", "adapter_id"),
        DERIVED,
    )

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    suite_id: Mapped[int] = mapped_column(ForeignKey("suites.id"), primary_key=True)
    score: Mapped[float]
    bytes_per_point: Mapped[float | None]
