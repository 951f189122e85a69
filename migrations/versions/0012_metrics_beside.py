"""Metrics that stand beside the one that ranks: their outcomes and their scores."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("beside_outcomes", sa.LargeBinary(), nullable=True))
    op.add_column("evaluations", sa.Column("beside", sa.Text(), nullable=True))
