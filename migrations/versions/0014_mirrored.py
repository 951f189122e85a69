"""Namespaces that are copies of another hub's, and when that was last asked about each adapter."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("accounts", sa.Column("mirrored_from", sa.String(length=200), nullable=True))
    op.create_table(
        "mirrored_adapters",
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("etag", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name="fk_mirrored_adapters_adapter_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("adapter_id", name="pk_mirrored_adapters"),
    )
