"""Commits that are no version, and their branches and tags."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "drafts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("beneath_id", KEY, nullable=True),
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.Column("parent", sa.String(length=40), nullable=True),
        sa.Column("is_main", sa.Boolean(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created_by_id", KEY, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_drafts_adapter_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["beneath_id"], ["versions.id"], name="fk_drafts_beneath_id"),
        sa.ForeignKeyConstraint(["created_by_id"], ["accounts.id"], name="fk_drafts_created_by_id"),
        sa.PrimaryKeyConstraint("id", name="pk_drafts"),
        sa.UniqueConstraint("commit", name="uq_drafts_commit"),
    )
    op.create_index("ix_drafts_adapter_id_beneath_id", "drafts", ["adapter_id", "beneath_id", "id"], unique=False)
    op.create_index("ix_drafts_beneath_id", "drafts", ["beneath_id"], unique=False)
    op.create_table(
        "draft_files",
        sa.Column("draft_id", KEY, nullable=False),
        sa.Column("path", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", KEY, nullable=False),
        sa.ForeignKeyConstraint(["draft_id"], ["drafts.id"], name="fk_draft_files_draft_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_draft_files_sha256"),
        sa.PrimaryKeyConstraint("draft_id", "path", name="pk_draft_files"),
    )
    op.create_index("ix_draft_files_sha256", "draft_files", ["sha256"], unique=False)
    op.create_table(
        "draft_names",
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("kind", sa.String(length=6), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.CheckConstraint("kind IN ('branch', 'tag')", name="ck_draft_names_kind"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_draft_names_adapter_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("adapter_id", "kind", "name", name="pk_draft_names"),
    )
