"""The tables. What must always hold is a constraint here, not a check in code that could race."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from hub.db.types import JsonText, Key, UtcDateTime

# The names alembic and error messages use.
_NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

SHA256 = String(64)  # hex digits
DIGEST = String(71)  # sha256:<hex digits>
FINGERPRINT = String(69)  # vbf1:<hex digits>


# Of tables that can be made again from others: no backup holds them.
_DERIVED = {"info": {"is_derived": True}}


class Table(DeclarativeBase):
    metadata = MetaData(naming_convention=_NAMING)
    type_annotation_map = {datetime: UtcDateTime, int: Key}  # noqa: RUF012  # SQLAlchemy reads a plain dict here


class Account(Table):
    """Who owns adapters: a user or an organisation. One that was deleted keeps its name, so that nobody
    can take it over and be taken for it."""

    __tablename__ = "accounts"
    __table_args__ = (CheckConstraint("kind IN ('user', 'organisation')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(39), unique=True)
    kind: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]
    # When a worker last took one of this owner's evaluations: whose turn it is next.
    served_at: Mapped[datetime | None]
    is_admin: Mapped[bool] = mapped_column(server_default=false())
    # argon2id, for those who sign in with a password.
    password_hash: Mapped[str | None] = mapped_column(String(200))
    deleted_at: Mapped[datetime | None]
    # The hub whose namespace this is a copy of; nobody is anything in it here. NULL is one of our own.
    mirrored_from: Mapped[str | None] = mapped_column(String(200))


class Membership(Table):
    """What a user is in an organisation."""

    __tablename__ = "memberships"
    __table_args__ = (CheckConstraint("role IN ('reader', 'publisher', 'maintainer', 'owner')", name="role"),)

    organisation_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]

    organisation: Mapped[Account] = relationship(lazy="raise", foreign_keys=organisation_id)
    user: Mapped[Account] = relationship(lazy="raise", foreign_keys=user_id)


class Invitation(Table):
    """A role that waits for a user to accept it. The row goes when they answer."""

    __tablename__ = "invitations"
    __table_args__ = (CheckConstraint("role IN ('reader', 'publisher', 'maintainer', 'owner')", name="role"),)

    organisation_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    role: Mapped[str] = mapped_column(String(16))
    invited_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]

    organisation: Mapped[Account] = relationship(lazy="raise", foreign_keys=organisation_id)
    user: Mapped[Account] = relationship(lazy="raise", foreign_keys=user_id)
    invited_by: Mapped[Account] = relationship(lazy="raise", foreign_keys=invited_by_id)


class Token(Table):
    """A secret's hash and what it may do. The secret itself is shown once and never kept.

    `account_id` is whom it speaks for, `created_by_id` who made it, when that is somebody else.
    """

    __tablename__ = "tokens"
    __table_args__ = (CheckConstraint("kind IN ('p', 'c', 'w', 'b', 's')", name="kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    kind: Mapped[str] = mapped_column(String(1))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    last4: Mapped[str] = mapped_column(String(4))
    scopes: Mapped[list[str]] = mapped_column(JsonText)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    name: Mapped[str | None] = mapped_column(String(100))
    # Namespaces and adapters that it is for; NULL is all its account reaches.
    restricted_to: Mapped[list[str] | None] = mapped_column(JsonText)
    created_by_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    # The job that it was minted for, which goes into every version it pushes.
    provenance: Mapped[dict[str, str] | None] = mapped_column(JsonText)

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    created_by: Mapped[Account | None] = relationship(lazy="raise", foreign_keys=created_by_id)


class DeviceLogin(Table):
    """A program on some machine that asks to be let in (RFC 8628). The row goes when its token is collected, or with time.

    `user_code` is what a person reads off its screen; `hash` is of the code that only the program knows.
    """

    __tablename__ = "device_logins"
    __table_args__ = (CheckConstraint("state IN ('waiting', 'allowed', 'denied')", name="state"),)

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    user_code: Mapped[str] = mapped_column(String(9), unique=True)
    # What the program says it is, and where it asked from.
    client: Mapped[str] = mapped_column(String(200))
    address: Mapped[str] = mapped_column(String(64), index=True)
    state: Mapped[str] = mapped_column(String(8))
    # Who has allowed it, and what.
    account_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))
    scopes: Mapped[list[str] | None] = mapped_column(JsonText)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)

    account: Mapped[Account | None] = relationship(lazy="raise")


class Publisher(Table):
    """A workflow of a CI system that may push to a namespace, or to one adapter in it."""

    __tablename__ = "publishers"
    __table_args__ = (Index("ix_publishers_issuer_repository_id", "issuer", "repository_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    adapter_name: Mapped[str | None] = mapped_column(String(64))
    issuer: Mapped[str] = mapped_column(String(200))
    repository: Mapped[str] = mapped_column(String(200))
    # Names can be given to others; these numbers cannot.
    repository_id: Mapped[str] = mapped_column(String(40))
    owner_id: Mapped[str] = mapped_column(String(40))
    workflow: Mapped[str] = mapped_column(String(200))
    environment: Mapped[str | None] = mapped_column(String(100))
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    created_by: Mapped[Account] = relationship(lazy="raise", foreign_keys=created_by_id)


class ShownIdentity(Table):
    """The identity of a job that was shown once, kept until nobody would take it any more."""

    __tablename__ = "shown_identities"

    hash: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Blob(Table):
    """Bytes by their hash. `data` is NULL when they live in the object store."""

    __tablename__ = "blobs"
    __table_args__ = (CheckConstraint("data IS NULL OR length(data) = size_bytes", name="whole"),)

    sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    size_bytes: Mapped[int]
    data: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[datetime]


class Projection(Table):
    """A pair of matrices that follows no recipe, kept once for every adapter that uses it. `digest` is the
    SHA-256 of its bytes, which are those of its pieces one after the other."""

    __tablename__ = "projections"

    digest: Mapped[str] = mapped_column(DIGEST, primary_key=True)
    size_bytes: Mapped[int]
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]


class ProjectionHolder(Table):
    """Who has shown a stored projection, byte by byte: knowing its digest is not having it."""

    __tablename__ = "projection_holders"

    digest: Mapped[str] = mapped_column(ForeignKey("projections.digest"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)


class ProjectionPiece(Table):
    """A part of a stored projection: a blob of a size that a request can hold in memory."""

    __tablename__ = "projection_pieces"

    digest: Mapped[str] = mapped_column(ForeignKey("projections.digest"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)


class Base(Table):
    """A base model. `tensors` is its table as compressed JSON: it is read whole or not at all."""

    __tablename__ = "bases"
    __table_args__ = (Index("ix_bases_name", "name", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    fingerprint: Mapped[str] = mapped_column(FINGERPRINT, unique=True)
    name: Mapped[str] = mapped_column(String(200))
    revision: Mapped[str | None] = mapped_column(String(200))
    dtype: Mapped[str] = mapped_column(String(16))
    parameters: Mapped[int]
    size_bytes: Mapped[int]
    tensor_count: Mapped[int]
    tensors: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)
    created_at: Mapped[datetime]


class Adapter(Table):
    """A name that versions are pushed under. Base and task are those of the latest version, or of the newest
    that can be had while none is the latest."""

    __tablename__ = "adapters"
    __table_args__ = (
        UniqueConstraint("account_id", "name"),
        # Names that look alike may not coexist in one namespace.
        UniqueConstraint("account_id", "folded_name"),
        CheckConstraint("gate IN ('auto', 'manual')", name="gate"),
        Index("ix_adapters_updated_at", "updated_at", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    name: Mapped[str] = mapped_column(String(64))
    folded_name: Mapped[str] = mapped_column(String(64))
    # NULL until the first version; queries of adapters join their bases and do not see one without.
    base_id: Mapped[int | None] = mapped_column(ForeignKey("bases.id"), index=True)
    task_kind: Mapped[str | None] = mapped_column(String(64), index=True)
    labels: Mapped[list[str] | None] = mapped_column(JsonText)
    is_private: Mapped[bool] = mapped_column(server_default=false())
    # Whether files are given only to whom has asked ("auto"), or was let in ("manual"); NULL is everybody.
    gate: Mapped[str | None] = mapped_column(String(6))
    # Counts the versions ever made, so that a number is never given twice.
    last_number: Mapped[int]
    # What `latest` means; NULL while no version may be that.
    latest_number: Mapped[int | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    account: Mapped[Account] = relationship(lazy="raise")
    base: Mapped[Base] = relationship(lazy="raise")


class MovedName(Table):
    """A name that an adapter has had. It leads to the adapter, and nobody gets it again while that is there."""

    __tablename__ = "moved_names"

    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"), index=True)
    at: Mapped[datetime]


class MirroredAdapter(Table):
    """What is known of an adapter of another hub: when that has last said what it is like, and the ETag it gave."""

    __tablename__ = "mirrored_adapters"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"), primary_key=True)
    checked_at: Mapped[datetime]
    # NULL while not all of what it said is here.
    etag: Mapped[str | None] = mapped_column(String(200))


class AccessRequest(Table):
    """Somebody who has asked for the files of a gated adapter, or was let in without, and what became of it."""

    __tablename__ = "access_requests"
    __table_args__ = (CheckConstraint("state IN ('pending', 'accepted', 'rejected')", name="state"),)

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)
    state: Mapped[str] = mapped_column(String(8))
    # What they have said, and what they were told.
    message: Mapped[str | None] = mapped_column(String(1000))
    reason: Mapped[str | None] = mapped_column(String(1000))
    created_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by_id: Mapped[int | None] = mapped_column(ForeignKey("accounts.id"))

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    decided_by: Mapped[Account | None] = relationship(lazy="raise", foreign_keys=decided_by_id)


class Version(Table):
    """One immutable version. `digest` is the hash of its manifest, which names every other byte.

    One that was deleted stays as a row without files, so that its number and its digest are never given again.
    """

    __tablename__ = "versions"
    __table_args__ = (
        UniqueConstraint("adapter_id", "number"),
        UniqueConstraint("adapter_id", "digest"),
        CheckConstraint("number >= 1", name="number"),
        Index("ix_versions_labels_sha256", "labels_sha256", "base_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    base_id: Mapped[int] = mapped_column(ForeignKey("bases.id"))
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    number: Mapped[int]
    digest: Mapped[str] = mapped_column(DIGEST, index=True)
    weights_digest: Mapped[str] = mapped_column(DIGEST)
    commit: Mapped[str] = mapped_column(String(40), unique=True)
    rank: Mapped[int]
    parameters: Mapped[int]
    vector_bytes: Mapped[int]
    head_bytes: Mapped[int]
    size_bytes: Mapped[int]
    lora_bytes: Mapped[int]
    # Which suites fit: those with the same labels in the same order. NULL without labels.
    labels_sha256: Mapped[str | None] = mapped_column(SHA256)
    message: Mapped[str | None] = mapped_column(Text)
    card_html: Mapped[str] = mapped_column(Text, deferred=True)
    warnings: Mapped[list[str]] = mapped_column(JsonText)
    # The digest of its pair where that is stored here; NULL where a recipe gives it.
    stored_projection: Mapped[str | None] = mapped_column(ForeignKey("projections.digest"), index=True)
    # The job that pushed it, as its CI system has proven; NULL for everybody else's.
    provenance: Mapped[dict[str, str] | None] = mapped_column(JsonText)
    created_at: Mapped[datetime]
    # The version it was made from: the one before it, or one of another adapter.
    parent_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"), index=True)
    # Where it was made, as whoever pushed it says: {"commit": …, "run": …}.
    source: Mapped[dict[str, str] | None] = mapped_column(JsonText)
    is_prerelease: Mapped[bool] = mapped_column(server_default=false())
    yank_reason: Mapped[str | None] = mapped_column(Text)
    deprecation: Mapped[str | None] = mapped_column(Text)
    replacement: Mapped[str | None] = mapped_column(String(200))
    quarantine_reason: Mapped[str | None] = mapped_column(Text)
    deleted_at: Mapped[datetime | None]
    delete_reason: Mapped[str | None] = mapped_column(Text)
    # When somebody else than its author first fetched it: from then on it is not theirs alone to delete.
    fetched_at: Mapped[datetime | None]

    adapter: Mapped[Adapter] = relationship(lazy="raise")
    base: Mapped[Base] = relationship(lazy="raise")
    created_by: Mapped[Account] = relationship(lazy="raise")


class VersionFile(Table):
    __tablename__ = "version_files"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    path: Mapped[str] = mapped_column(String(64), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]


class Draft(Table):
    """A commit over the Hugging Face Hub's wire that is no version: what it has beside the files of the version
    beneath it, or all there is while there is none. `is_main` says that it was made on `main`."""

    __tablename__ = "drafts"
    __table_args__ = (Index("ix_drafts_adapter_id_beneath_id", "adapter_id", "beneath_id", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"))
    beneath_id: Mapped[int | None] = mapped_column(ForeignKey("versions.id"), index=True)
    commit: Mapped[str] = mapped_column(String(40), unique=True)
    # The commit before it, a draft's or a version's; NULL for the first.
    parent: Mapped[str | None] = mapped_column(String(40))
    is_main: Mapped[bool]
    message: Mapped[str] = mapped_column(Text)
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]

    created_by: Mapped[Account] = relationship(lazy="raise")


class DraftFile(Table):
    __tablename__ = "draft_files"

    draft_id: Mapped[int] = mapped_column(ForeignKey("drafts.id", ondelete="CASCADE"), primary_key=True)
    path: Mapped[str] = mapped_column(String(255), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blobs.sha256"), index=True)
    size_bytes: Mapped[int]


class DraftName(Table):
    """A branch beside `main`, or a tag of a draft: a name of a commit."""

    __tablename__ = "draft_names"
    __table_args__ = (CheckConstraint("kind IN ('branch', 'tag')", name="kind"),)

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(6), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    commit: Mapped[str] = mapped_column(String(40))


class Alias(Table):
    """A name that a version has for now. `move_id` is the move that made it so."""

    __tablename__ = "aliases"

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), index=True)
    move_id: Mapped[int]
    is_protected: Mapped[bool] = mapped_column(server_default=false())


class AliasMove(Table):
    """One move of an alias: from nothing when it was set, to nothing when it was removed."""

    __tablename__ = "alias_moves"
    __table_args__ = (Index("ix_alias_moves_adapter_id_name_id", "adapter_id", "name", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"))
    name: Mapped[str] = mapped_column(String(64))
    from_number: Mapped[int | None]
    to_number: Mapped[int | None]
    by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    at: Mapped[datetime]

    by: Mapped[Account] = relationship(lazy="raise")


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
        _DERIVED,
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
    # The digest of the pair of matrices, whether a recipe gives it or it is stored.
    projection: Mapped[str] = mapped_column(DIGEST)
    downloads: Mapped[int] = mapped_column(server_default=text("0"))


class ListingTerm(Table):
    """A tag of a listing, or a data set that it names."""

    __tablename__ = "listing_terms"
    __table_args__ = (CheckConstraint("kind IN ('tag', 'dataset')", name="kind"), _DERIVED)

    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    value: Mapped[str] = mapped_column(String(200), primary_key=True)
    listing_id: Mapped[int] = mapped_column(ForeignKey("listings.id"), primary_key=True, index=True)


class ListingScore(Table):
    """What the listed version of an adapter scores on one definition of a suite. `bytes_per_point` is its vectors
    and head over the score in percent; NULL for a score that is not above zero."""

    __tablename__ = "listing_scores"
    __table_args__ = (
        Index("ix_listing_scores_score", "suite_id", "score", "adapter_id"),
        Index("ix_listing_scores_bytes_per_point", "suite_id", "bytes_per_point", "adapter_id"),
        _DERIVED,
    )

    adapter_id: Mapped[int] = mapped_column(ForeignKey("adapters.id"), primary_key=True)
    suite_id: Mapped[int] = mapped_column(ForeignKey("suites.id"), primary_key=True)
    score: Mapped[float]
    bytes_per_point: Mapped[float | None]


class Secret(Table):
    """A random key of this hub, the same for every process that shares the database."""

    __tablename__ = "secrets"

    name: Mapped[str] = mapped_column(String(32), primary_key=True)
    value: Mapped[bytes] = mapped_column(LargeBinary)


class Suite(Table):
    """One definition of a suite. A changed definition is a new row; the old one keeps its results."""

    __tablename__ = "suites"
    __table_args__ = (
        UniqueConstraint("name", "digest"),
        Index(
            "uq_suites_current",
            "name",
            unique=True,
            sqlite_where=text("is_current"),
            postgresql_where=text("is_current"),
        ),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(130))
    digest: Mapped[str] = mapped_column(DIGEST)
    definition: Mapped[dict[str, Any]] = mapped_column(JsonText)
    title: Mapped[str] = mapped_column(String(200))
    metric: Mapped[str] = mapped_column(String(32))
    items: Mapped[int]
    labels: Mapped[list[str]] = mapped_column(JsonText)
    labels_sha256: Mapped[str | None] = mapped_column(SHA256, index=True)
    baselines: Mapped[dict[str, float]] = mapped_column(JsonText)
    is_current: Mapped[bool]
    created_at: Mapped[datetime]


class Worker(Table):
    """A program that evaluates, as one token names it.

    `suite_ids` are the definitions it can run; `bases` the fingerprints it can load, NULL for any.
    """

    __tablename__ = "workers"
    __table_args__ = (UniqueConstraint("token_id", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    token_id: Mapped[int] = mapped_column(ForeignKey("tokens.id"))
    name: Mapped[str] = mapped_column(String(100))
    created_at: Mapped[datetime]
    last_seen_at: Mapped[datetime] = mapped_column(index=True)
    suite_ids: Mapped[list[int]] = mapped_column(JsonText)
    bases: Mapped[list[str] | None] = mapped_column(JsonText)


class Evaluation(Table):
    """One suite on one version, and the lease of whoever works on it.

    `fence` grows with every claim: what an earlier holder still sends no longer fits. `owner_id` is
    the adapter's owner, whose turn the queue counts.
    """

    __tablename__ = "evaluations"
    __table_args__ = (
        UniqueConstraint("version_id", "spec_digest"),
        CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="state"),
        CheckConstraint(
            "state <> 'running' OR (worker_id IS NOT NULL AND lease_expires_at IS NOT NULL)", name="leased"
        ),
        CheckConstraint("state <> 'done' OR (score IS NOT NULL AND outcomes IS NOT NULL)", name="scored"),
        Index("ix_evaluations_queue", "state", "owner_id", "id"),
        Index("ix_evaluations_suite_id_state", "suite_id", "state"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"))
    suite_id: Mapped[int] = mapped_column(ForeignKey("suites.id"))
    owner_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    spec: Mapped[dict[str, Any]] = mapped_column(JsonText)
    spec_digest: Mapped[str] = mapped_column(DIGEST)
    state: Mapped[str] = mapped_column(String(8))
    reason: Mapped[str | None] = mapped_column(Text)
    # The lease.
    worker_id: Mapped[int | None] = mapped_column(ForeignKey("workers.id"))
    lease_expires_at: Mapped[datetime | None]
    fence: Mapped[int]
    attempts: Mapped[int]
    # The result. `outcomes` is the credit of each item as compressed JSON; the outputs are a blob.
    score: Mapped[float | None]
    low: Mapped[float | None]
    high: Mapped[float | None]
    outcomes: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    outputs_sha256: Mapped[str | None] = mapped_column(ForeignKey("blobs.sha256"))
    # The same of each metric beside the one that ranks: {metric: outcomes}, {metric: [score, low, high]}.
    beside_outcomes: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    beside: Mapped[dict[str, list[float]] | None] = mapped_column(JsonText)
    environment: Mapped[dict[str, Any]] = mapped_column(JsonText)
    seconds: Mapped[float | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    version: Mapped[Version] = relationship(lazy="raise")
    suite: Mapped[Suite] = relationship(lazy="raise")
    worker: Mapped[Worker | None] = relationship(lazy="raise")


# -- The record -----------------------------------------------------------------------------------


class AuditChain(Table):
    """The head of the record of one namespace, or of the hub itself (the empty name). Whoever adds to the record
    holds this row, so that events of one chain follow one another."""

    __tablename__ = "audit_chains"

    name: Mapped[str] = mapped_column(String(39), primary_key=True)
    length: Mapped[int]
    hash: Mapped[str] = mapped_column(SHA256)


class AuditEvent(Table):
    """Who has done what, kept with the change itself. `hash` covers the event and the hash before it.

    Names are text and not keys: a record says what was, whatever becomes of it.
    """

    __tablename__ = "audit_events"
    __table_args__ = (
        UniqueConstraint("chain", "number"),
        Index("ix_audit_events_adapter", "chain", "adapter", "number"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    chain: Mapped[str] = mapped_column(ForeignKey("audit_chains.name"))
    number: Mapped[int]
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(String(39))
    # The token that was used; NULL for the hub itself, and for who signs in.
    token_id: Mapped[int | None]
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(200))
    # The name of the adapter in `subject`, by which a record is narrowed down.
    adapter: Mapped[str | None] = mapped_column(String(64))
    facts: Mapped[dict[str, Any]] = mapped_column(JsonText)
    previous: Mapped[str] = mapped_column(SHA256)
    hash: Mapped[str] = mapped_column(SHA256)


class DownloadCount(Table):
    """How many have fetched the weights of a version on one day (UTC), each counted once."""

    __tablename__ = "download_counts"

    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    count: Mapped[int]


class DownloadDay(Table):
    """What the addresses of one day are hashed with. It goes with the day: then nobody can tell whose they were."""

    __tablename__ = "download_days"

    day: Mapped[date] = mapped_column(primary_key=True)
    salt: Mapped[bytes] = mapped_column(LargeBinary(32))


class Downloader(Table):
    """Somebody who was counted already, as a hash that means nothing without the day's salt."""

    __tablename__ = "downloaders"

    day: Mapped[date] = mapped_column(ForeignKey("download_days.day"), primary_key=True)
    version_id: Mapped[int] = mapped_column(ForeignKey("versions.id"), primary_key=True)
    who: Mapped[bytes] = mapped_column(LargeBinary(16), primary_key=True)


class Webhook(Table):
    """An address that hears of the changes in a namespace, or of one adapter in it. The secret signs what is sent."""

    __tablename__ = "webhooks"

    id: Mapped[int] = mapped_column(primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), index=True)
    adapter_name: Mapped[str | None] = mapped_column(String(64))
    url: Mapped[str] = mapped_column(String(500))
    secret: Mapped[str] = mapped_column(String(100))
    # The actions it hears of; NULL is all.
    actions: Mapped[list[str] | None] = mapped_column(JsonText)
    created_by_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]
    # When its receiver has answered 410 Gone: it is sent nothing any more.
    disabled_at: Mapped[datetime | None]

    account: Mapped[Account] = relationship(lazy="raise", foreign_keys=account_id)
    created_by: Mapped[Account] = relationship(lazy="raise", foreign_keys=created_by_id)


class Delivery(Table):
    """One message to one webhook, enqueued by the change that it tells of. `key` is the webhook-id of every attempt."""

    __tablename__ = "deliveries"
    __table_args__ = (
        CheckConstraint("state IN ('waiting', 'done', 'failed')", name="state"),
        Index("ix_deliveries_due", "state", "next_at"),
        Index("ix_deliveries_webhook_id", "webhook_id", "id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    webhook_id: Mapped[int] = mapped_column(ForeignKey("webhooks.id", ondelete="CASCADE"))
    key: Mapped[str] = mapped_column(String(40))
    action: Mapped[str] = mapped_column(String(40))
    body: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(8))
    attempts: Mapped[int]
    # When it is next sent; while it is being sent, when somebody else may take it.
    next_at: Mapped[datetime]
    created_at: Mapped[datetime]
    # What came of the last attempt.
    tried_at: Mapped[datetime | None]
    status: Mapped[int | None]
    error: Mapped[str | None] = mapped_column(String(500))
    milliseconds: Mapped[int | None]

    webhook: Mapped[Webhook] = relationship(lazy="raise")


class RemovedObject(Table):
    """An object that `admin gc` is taking out of the object store, or has taken lately. A push that has put the same
    bytes before `removed_at` must put them again."""

    __tablename__ = "removed_objects"

    sha256: Mapped[str] = mapped_column(SHA256, primary_key=True)
    removed_at: Mapped[datetime | None]
