"""How many numbers an adapter is, by which searches for a range of those begin."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Filled when a hub starts: until the last process of the release before has ended, there are more without it.
    op.add_column("listings", sa.Column("numbers", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True))
    op.create_index("ix_listings_numbers_id", "listings", ["numbers", "id"])
