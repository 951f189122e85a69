"""Who has registered a base, for the quota of bases. Those from before count for nobody."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("bases") as bases:
        bases.add_column(sa.Column("created_by_id", KEY, nullable=True))
        bases.create_foreign_key("fk_bases_created_by_id", "accounts", ["created_by_id"], ["id"])
        bases.create_index("ix_bases_created_by_id", ["created_by_id"], unique=False)
