"""An index of the adapters that not everybody sees, by their accounts: on a mirror, whoever has signed in asks for those."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_adapters_private",
        "adapters",
        ["account_id"],
        sqlite_where=sa.text("is_private = 1"),
        postgresql_where=sa.text("is_private"),
    )
