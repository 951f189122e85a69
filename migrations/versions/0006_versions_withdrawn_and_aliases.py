"""Versions that are taken back, pre-releases, where versions come from, and aliases with their history."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    # Until now every version could be the latest one.
    op.add_column("adapters", sa.Column("latest_number", KEY, nullable=True))
    op.execute("UPDATE adapters SET latest_number = last_number WHERE last_number > 0")
    change_versions()
    op.create_table(
        "aliases",
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("move_id", KEY, nullable=False),
        sa.Column("is_protected", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_aliases_adapter_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_aliases_version_id"),
        sa.PrimaryKeyConstraint("adapter_id", "name", name="pk_aliases"),
    )
    op.create_index("ix_aliases_version_id", "aliases", ["version_id"], unique=False)
    op.create_table(
        "alias_moves",
        sa.Column("id", KEY, nullable=False),
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("from_number", KEY, nullable=True),
        sa.Column("to_number", KEY, nullable=True),
        sa.Column("by_id", KEY, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_alias_moves_adapter_id"),
        sa.ForeignKeyConstraint(["by_id"], ["accounts.id"], name="fk_alias_moves_by_id"),
        sa.PrimaryKeyConstraint("id", name="pk_alias_moves"),
    )
    op.create_index("ix_alias_moves_adapter_id_name_id", "alias_moves", ["adapter_id", "name", "id"], unique=False)


def change_versions() -> None:
    op.add_column("versions", sa.Column("is_prerelease", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column("versions", sa.Column("yank_reason", sa.Text(), nullable=True))
    op.add_column("versions", sa.Column("deprecation", sa.Text(), nullable=True))
    op.add_column("versions", sa.Column("replacement", sa.String(length=200), nullable=True))
    op.add_column("versions", sa.Column("quarantine_reason", sa.Text(), nullable=True))
    op.add_column("versions", sa.Column("deleted_at", MOMENT, nullable=True))
    op.add_column("versions", sa.Column("delete_reason", sa.Text(), nullable=True))
    op.add_column("versions", sa.Column("fetched_at", MOMENT, nullable=True))
    op.add_column("versions", sa.Column("source", sa.Text(), nullable=True))
    # As SQL: SQLite can give a new column its foreign key, and cannot add one afterwards.
    kind = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(
        f"ALTER TABLE versions ADD COLUMN parent_id {kind} CONSTRAINT fk_versions_parent_id REFERENCES versions (id)"
    )
    op.create_index("ix_versions_parent_id", "versions", ["parent_id"], unique=False)
    # A version is made from the one before it unless somebody says otherwise, which nobody could.
    op.execute(
        "UPDATE versions SET parent_id = (SELECT earlier.id FROM versions AS earlier "
        "WHERE earlier.adapter_id = versions.adapter_id AND earlier.number = versions.number - 1)"
    )
    # Nobody noted downloads: what is there may have been fetched, and is not deleted as if it had not.
    op.execute("UPDATE versions SET fetched_at = created_at")
