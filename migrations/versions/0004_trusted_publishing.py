"""Trusted publishing: which CI may push where, what it has shown already, and where a version came from."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("tokens", sa.Column("provenance", sa.Text(), nullable=True))
    op.add_column("versions", sa.Column("provenance", sa.Text(), nullable=True))
    op.create_table(
        "publishers",
        sa.Column("id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("adapter_name", sa.String(length=64), nullable=True),
        sa.Column("issuer", sa.String(length=200), nullable=False),
        sa.Column("repository", sa.String(length=200), nullable=False),
        sa.Column("repository_id", sa.String(length=40), nullable=False),
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("workflow", sa.String(length=200), nullable=False),
        sa.Column("environment", sa.String(length=100), nullable=True),
        sa.Column("created_by_id", KEY, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_publishers_account_id"),
        sa.ForeignKeyConstraint(["created_by_id"], ["accounts.id"], name="fk_publishers_created_by_id"),
        sa.PrimaryKeyConstraint("id", name="pk_publishers"),
    )
    op.create_index("ix_publishers_account_id", "publishers", ["account_id"], unique=False)
    op.create_index("ix_publishers_issuer_repository_id", "publishers", ["issuer", "repository_id"], unique=False)
    op.create_table(
        "shown_identities",
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_shown_identities"),
    )
    op.create_index("ix_shown_identities_expires_at", "shown_identities", ["expires_at"], unique=False)
