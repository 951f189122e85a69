"""Whose scores of hidden suites are counted, wherever their adapters move."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "hidden_scores",
        sa.Column("evaluation_id", KEY, sa.ForeignKey("evaluations.id"), primary_key=True, autoincrement=False),
        sa.Column("account_id", KEY, sa.ForeignKey("accounts.id"), primary_key=True, autoincrement=False),
    )
    op.create_index("ix_hidden_scores_account_id", "hidden_scores", ["account_id"])
    counted = sa.text(
        "INSERT INTO hidden_scores (evaluation_id, account_id) SELECT id, owner_id FROM evaluations "
        "WHERE state IN ('waiting', 'running') OR finished_at > :since"
    ).bindparams(sa.bindparam("since", datetime.now(UTC) - timedelta(days=1), type_=sa.DateTime(timezone=True)))
    op.execute(counted)
