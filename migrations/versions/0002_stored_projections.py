"""Stored projections: pairs that follow no recipe, in pieces, and which version uses which."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "projections",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("size_bytes", KEY, nullable=False),
        sa.Column("created_by_id", KEY, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["created_by_id"], ["accounts.id"], name="fk_projections_created_by_id"),
        sa.PrimaryKeyConstraint("digest", name="pk_projections"),
    )
    op.create_table(
        "projection_pieces",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("number", KEY, nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["projections.digest"], name="fk_projection_pieces_digest"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_projection_pieces_sha256"),
        sa.PrimaryKeyConstraint("digest", "number", name="pk_projection_pieces"),
    )
    op.create_index("ix_projection_pieces_sha256", "projection_pieces", ["sha256"], unique=False)
    # As SQL: SQLite can give a new column its foreign key, and cannot add one afterwards.
    op.execute(
        "ALTER TABLE versions ADD COLUMN stored_projection VARCHAR(71) "
        "CONSTRAINT fk_versions_stored_projection REFERENCES projections (digest)"
    )
    op.create_index("ix_versions_stored_projection", "versions", ["stored_projection"], unique=False)
