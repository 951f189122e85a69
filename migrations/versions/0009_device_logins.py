"""Programs that ask to be let in, and wait for somebody to say so in a browser."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "device_logins",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("user_code", sa.String(length=9), nullable=False),
        sa.Column("client", sa.String(length=200), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("account_id", KEY, nullable=True),
        sa.Column("scopes", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('waiting', 'allowed', 'denied')", name="ck_device_logins_state"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_device_logins_account_id"),
        sa.PrimaryKeyConstraint("hash", name="pk_device_logins"),
        sa.UniqueConstraint("user_code", name="uq_device_logins_user_code"),
    )
    op.create_index("ix_device_logins_address", "device_logins", ["address"], unique=False)
    op.create_index("ix_device_logins_expires_at", "device_logins", ["expires_at"], unique=False)
