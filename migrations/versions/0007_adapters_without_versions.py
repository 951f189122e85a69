"""Adapters that have a name and no version yet."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """SQLite makes a new table of it: its constraints cannot change."""
    with op.batch_alter_table("adapters") as adapters:
        adapters.alter_column("base_id", existing_type=KEY, nullable=True)
