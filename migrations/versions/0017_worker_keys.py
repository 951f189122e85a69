"""The keys that workers sign with, the codes that let workers in, and what was signed of each result."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "worker_keys",
        sa.Column("id", KEY, nullable=False),
        sa.Column("public_key", sa.String(length=44), nullable=False),
        sa.Column("key_id", sa.String(length=71), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("token_id", KEY, nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_worker_keys_token_id"),
        sa.PrimaryKeyConstraint("id", name="pk_worker_keys"),
        sa.UniqueConstraint("public_key", name="uq_worker_keys_public_key"),
    )
    op.create_index("ix_worker_keys_token_id", "worker_keys", ["token_id"], unique=False)
    op.create_table(
        "worker_codes",
        sa.Column("id", KEY, nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("used_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_worker_codes_account_id"),
        sa.PrimaryKeyConstraint("id", name="pk_worker_codes"),
        sa.UniqueConstraint("hash", name="uq_worker_codes_hash"),
    )
    with op.batch_alter_table("workers") as workers:
        workers.add_column(sa.Column("key_id", KEY, nullable=True))
        workers.create_foreign_key("fk_workers_key_id", "worker_keys", ["key_id"], ["id"])
        workers.create_index("ix_workers_key_id", ["key_id"], unique=False)
    with op.batch_alter_table("evaluations") as evaluations:
        evaluations.add_column(sa.Column("envelope", sa.Text(), nullable=True))
        evaluations.add_column(sa.Column("worker_key_id", KEY, nullable=True))
        evaluations.create_foreign_key("fk_evaluations_worker_key_id", "worker_keys", ["worker_key_id"], ["id"])
        evaluations.create_index("ix_evaluations_worker_key_id", ["worker_key_id"], unique=False)
