"""Gated adapters, whose files are given to those whom their owners let in, and who has asked."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """SQLite makes a new table of the adapters: its constraints cannot change."""
    with op.batch_alter_table("adapters") as adapters:
        adapters.add_column(sa.Column("gate", sa.String(length=6), nullable=True))
        adapters.create_check_constraint("ck_adapters_gate", "gate IN ('auto', 'manual')")
    op.create_table(
        "access_requests",
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("message", sa.String(length=1000), nullable=True),
        sa.Column("reason", sa.String(length=1000), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("decided_at", MOMENT, nullable=True),
        sa.Column("decided_by_id", KEY, nullable=True),
        sa.CheckConstraint("state IN ('pending', 'accepted', 'rejected')", name="ck_access_requests_state"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_access_requests_adapter_id"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_access_requests_account_id"),
        sa.ForeignKeyConstraint(["decided_by_id"], ["accounts.id"], name="fk_access_requests_decided_by_id"),
        sa.PrimaryKeyConstraint("adapter_id", "account_id", name="pk_access_requests"),
    )
    op.create_index("ix_access_requests_account_id", "access_requests", ["account_id"], unique=False)
