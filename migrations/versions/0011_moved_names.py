"""Names that adapters have had, which lead to where they are now."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "moved_names",
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_moved_names_account_id"),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapters.id"], name="fk_moved_names_adapter_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("account_id", "name", name="pk_moved_names"),
    )
    op.create_index("ix_moved_names_adapter_id", "moved_names", ["adapter_id"], unique=False)
