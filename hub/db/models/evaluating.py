"""Suites, workers, and the evaluations between them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from hub.db.models.table import DIGEST, SHA256, Table
from hub.db.models.versions import Version
from hub.db.types import JsonText


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


class WorkerKey(Table):
    """An Ed25519 key that workers sign their results with. It outlives their tokens.

    `public_key` is base64 and `key_id` its SHA-256; `token_id` the token that was given for this key and no other, and
    `next_token_id` the one that takes its place once the worker has come with it.
    """

    __tablename__ = "worker_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    public_key: Mapped[str] = mapped_column(String(44), unique=True)
    key_id: Mapped[str] = mapped_column(DIGEST)
    name: Mapped[str] = mapped_column(String(100))
    token_id: Mapped[int | None] = mapped_column(ForeignKey("tokens.id"), index=True)
    next_token_id: Mapped[int | None] = mapped_column(ForeignKey("tokens.id"), index=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class HiddenScore(Table):
    """An evaluation whose score counts for an account, of the few that one has of a hidden suite. Where its adapter moves
    to changes nothing of that."""

    __tablename__ = "hidden_scores"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id"), primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)


class WorkerCode(Table):
    """The hash of a code that lets one worker in, with a token of this account."""

    __tablename__ = "worker_codes"

    id: Mapped[int] = mapped_column(primary_key=True)
    hash: Mapped[bytes] = mapped_column(LargeBinary(32), unique=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class Worker(Table):
    """A program that evaluates, as one token names it.

    `suite_ids` are the definitions it can run; `bases` the fingerprints it can load, NULL for any. `lacks` says of suites which
    metrics it cannot compute, and why: {name: {metric: reason}}.
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
    lacks: Mapped[dict[str, dict[str, str]] | None] = mapped_column(JsonText)
    # Of its GPU, or of the machine where there is none; NULL is enough for anything.
    memory_bytes: Mapped[int | None]
    # NULL of one that registered before workers had keys: it is given no job.
    key_id: Mapped[int | None] = mapped_column(ForeignKey("worker_keys.id"), index=True)

    key: Mapped[WorkerKey | None] = relationship(lazy="raise")


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
    # How many items its worker has answered, as it last said; NULL while it has not.
    items_done: Mapped[int | None]
    # The memory of the largest worker on which there was none for a single item; NULL while there was.
    short_bytes: Mapped[int | None]
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
    # Of the digests that are signed, for who may see the items; NULL of a result whose digests have none.
    salt: Mapped[str | None] = mapped_column(String(64), deferred=True)
    # What the worker has signed of it, as JSON; NULL of a result from before there were signatures.
    envelope: Mapped[str | None] = mapped_column(Text, deferred=True)
    worker_key_id: Mapped[int | None] = mapped_column(ForeignKey("worker_keys.id"), index=True)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    version: Mapped[Version] = relationship(lazy="raise")
    suite: Mapped[Suite] = relationship(lazy="raise")
    worker: Mapped[Worker | None] = relationship(lazy="raise")
    worker_key: Mapped[WorkerKey | None] = relationship(lazy="raise")
