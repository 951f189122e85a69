"""Versions, which never change, and what points at them: aliases and drafts."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.db.models.accounts import Account
from hub.db.models.adapters import Adapter, Base
from hub.db.models.table import DIGEST, SHA256, Table
from hub.db.types import JsonText


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
    # NULL where a release before this column kept a manifest outside the database.
    method: Mapped[str | None] = mapped_column(String(16))
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
    # Scores that the card says, [data set, metric, value]; NULL where it says none.
    reported: Mapped[list[tuple[str, str, float]] | None] = mapped_column(JsonText)
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
