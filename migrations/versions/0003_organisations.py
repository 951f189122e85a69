"""Organisations and their members, private adapters, tokens with names and restrictions, admins and passwords."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("accounts", sa.Column("is_admin", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("accounts", sa.Column("password_hash", sa.String(length=200), nullable=True))
    op.add_column("accounts", sa.Column("deleted_at", MOMENT, nullable=True))
    op.add_column("adapters", sa.Column("is_private", sa.Boolean(), nullable=False, server_default=sa.false()))
    change_tokens()
    op.create_table(
        "memberships",
        sa.Column("organisation_id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("role IN ('reader', 'publisher', 'maintainer', 'owner')", name="ck_memberships_role"),
        sa.ForeignKeyConstraint(["organisation_id"], ["accounts.id"], name="fk_memberships_organisation_id"),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.id"], name="fk_memberships_user_id"),
        sa.PrimaryKeyConstraint("organisation_id", "user_id", name="pk_memberships"),
    )
    op.create_index("ix_memberships_user_id", "memberships", ["user_id"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("organisation_id", KEY, nullable=False),
        sa.Column("user_id", KEY, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("invited_by_id", KEY, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.CheckConstraint("role IN ('reader', 'publisher', 'maintainer', 'owner')", name="ck_invitations_role"),
        sa.ForeignKeyConstraint(["invited_by_id"], ["accounts.id"], name="fk_invitations_invited_by_id"),
        sa.ForeignKeyConstraint(["organisation_id"], ["accounts.id"], name="fk_invitations_organisation_id"),
        sa.ForeignKeyConstraint(["user_id"], ["accounts.id"], name="fk_invitations_user_id"),
        sa.PrimaryKeyConstraint("organisation_id", "user_id", name="pk_invitations"),
    )
    op.create_index("ix_invitations_user_id", "invitations", ["user_id"], unique=False)
    op.create_table(
        "projection_holders",
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_projection_holders_account_id"),
        sa.ForeignKeyConstraint(["digest"], ["projections.digest"], name="fk_projection_holders_digest"),
        sa.PrimaryKeyConstraint("digest", "account_id", name="pk_projection_holders"),
    )
    op.execute("INSERT INTO projection_holders SELECT digest, created_by_id FROM projections")


def change_tokens() -> None:
    """More kinds of token, and more to know of each. SQLite makes a new table of it: its constraints cannot change."""
    with op.batch_alter_table("tokens") as tokens:
        tokens.drop_constraint("ck_tokens_kind", type_="check")
        tokens.create_check_constraint("ck_tokens_kind", "kind IN ('p', 'c', 'w', 'b', 's')")
        tokens.add_column(sa.Column("name", sa.String(length=100), nullable=True))
        tokens.add_column(sa.Column("restricted_to", sa.Text(), nullable=True))
        tokens.add_column(sa.Column("created_by_id", KEY, nullable=True))
        tokens.create_foreign_key("fk_tokens_created_by_id", "accounts", ["created_by_id"], ["id"])
