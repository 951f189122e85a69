"""The token that takes the place of a worker's, once the worker has come with it."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    with op.batch_alter_table("worker_keys") as keys:
        keys.add_column(sa.Column("next_token_id", KEY, nullable=True))
        keys.create_foreign_key("fk_worker_keys_next_token_id", "tokens", ["next_token_id"], ["id"])
        keys.create_index("ix_worker_keys_next_token_id", ["next_token_id"], unique=False)
