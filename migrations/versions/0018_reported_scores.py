"""Scores that the card of a version says, which are nobody's measurement."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("versions", sa.Column("reported", sa.Text(), nullable=True))
