"""The salt of the digests that a worker has signed; NULL of a result whose digests have none."""

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("evaluations", sa.Column("salt", sa.String(length=64), nullable=True))
