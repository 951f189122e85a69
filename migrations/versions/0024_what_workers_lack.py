"""What a worker cannot compute, and how much memory was too little for a job."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("workers", sa.Column("lacks", sa.Text(), nullable=True))
    op.add_column("evaluations", sa.Column("short_bytes", KEY, nullable=True))
