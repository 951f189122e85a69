"""The record of changes, downloads, webhooks, and what keeps collecting garbage safe."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)
SHA256 = sa.String(length=64)


def upgrade() -> None:
    create_audit()
    create_downloads()
    create_webhooks()
    op.create_table(
        "removed_objects",
        sa.Column("sha256", SHA256, nullable=False),
        sa.Column("removed_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("sha256", name="pk_removed_objects"),
    )


def create_audit() -> None:
    op.create_table(
        "audit_chains",
        sa.Column("name", sa.String(length=39), nullable=False),
        sa.Column("length", KEY, nullable=False),
        sa.Column("hash", SHA256, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_audit_chains"),
    )
    op.create_table(
        "audit_events",
        sa.Column("id", KEY, nullable=False),
        sa.Column("chain", sa.String(length=39), nullable=False),
        sa.Column("number", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.Column("actor", sa.String(length=39), nullable=False),
        sa.Column("token_id", KEY, nullable=True),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("adapter", sa.String(length=64), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("previous", SHA256, nullable=False),
        sa.Column("hash", SHA256, nullable=False),
        sa.ForeignKeyConstraint(["chain"], ["audit_chains.name"], name="fk_audit_events_chain"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
        sa.UniqueConstraint("chain", "number", name="uq_audit_events_chain_number"),
    )
    op.create_index("ix_audit_events_adapter", "audit_events", ["chain", "adapter", "number"], unique=False)


def create_downloads() -> None:
    op.create_table(
        "download_counts",
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("count", KEY, nullable=False),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_download_counts_version_id"),
        sa.PrimaryKeyConstraint("version_id", "day", name="pk_download_counts"),
    )
    op.create_table(
        "download_days",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("salt", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_download_days"),
    )
    op.create_table(
        "downloaders",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("who", sa.LargeBinary(length=16), nullable=False),
        sa.ForeignKeyConstraint(["day"], ["download_days.day"], name="fk_downloaders_day"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_downloaders_version_id"),
        sa.PrimaryKeyConstraint("day", "version_id", "who", name="pk_downloaders"),
    )


def create_webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("adapter_name", sa.String(length=64), nullable=True),
        sa.Column("url", sa.String(length=500), nullable=False),
        sa.Column("secret", sa.String(length=100), nullable=False),
        sa.Column("actions", sa.Text(), nullable=True),
        sa.Column("created_by_id", KEY, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("disabled_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_webhooks_account_id"),
        sa.ForeignKeyConstraint(["created_by_id"], ["accounts.id"], name="fk_webhooks_created_by_id"),
        sa.PrimaryKeyConstraint("id", name="pk_webhooks"),
    )
    op.create_index("ix_webhooks_account_id", "webhooks", ["account_id"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("id", KEY, nullable=False),
        sa.Column("webhook_id", KEY, nullable=False),
        sa.Column("key", sa.String(length=40), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("attempts", KEY, nullable=False),
        sa.Column("next_at", MOMENT, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("tried_at", MOMENT, nullable=True),
        sa.Column("status", KEY, nullable=True),
        sa.Column("error", sa.String(length=500), nullable=True),
        sa.Column("milliseconds", KEY, nullable=True),
        sa.CheckConstraint("state IN ('waiting', 'done', 'failed')", name="ck_deliveries_state"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name="fk_deliveries_webhook_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_deliveries"),
    )
    op.create_index("ix_deliveries_due", "deliveries", ["state", "next_at"], unique=False)
    op.create_index("ix_deliveries_webhook_id", "deliveries", ["webhook_id", "id"], unique=False)
