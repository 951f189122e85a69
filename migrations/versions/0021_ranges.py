"""Indexes by which searches for a range of ranks or of sizes, and for gated adapters, begin with those."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("rank", "size_bytes"):
        op.create_index(f"ix_listings_{column}_id", "listings", [column, "id"])
    gated = sa.text("gate IS NOT NULL")
    op.create_index("ix_adapters_gate", "adapters", ["gate"], sqlite_where=gated, postgresql_where=gated)
