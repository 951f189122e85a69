"""Listings: what adapters are found, narrowed down and sorted by. The server fills them when it starts."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SORTED_WITHIN = ("account_id", "base_id", "family", "task", "license", "projection", "downloads")


def upgrade() -> None:
    make_listings()
    op.create_table(
        "listing_terms",
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.Column("listing_id", KEY, nullable=False),
        sa.CheckConstraint("kind IN ('tag', 'dataset')", name="ck_listing_terms_kind"),
        sa.ForeignKeyConstraint(["listing_id"], ["listings.id"], name="fk_listing_terms_listing_id"),
        sa.PrimaryKeyConstraint("kind", "value", "listing_id", name="pk_listing_terms"),
    )
    op.create_index("ix_listing_terms_listing_id", "listing_terms", ["listing_id"], unique=False)
    op.create_table(
        "listing_scores",
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("suite_id", KEY, nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("bytes_per_point", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_listing_scores_adapter_id"),
        sa.ForeignKeyConstraint(["suite_id"], ["suites.id"], name="fk_listing_scores_suite_id"),
        sa.PrimaryKeyConstraint("adapter_id", "suite_id", name="pk_listing_scores"),
    )
    for column in ("score", "bytes_per_point"):
        index = f"ix_listing_scores_{column}"
        op.create_index(index, "listing_scores", ["suite_id", column, "adapter_id"], unique=False)
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
    make_words()


def make_listings() -> None:
    op.create_table(
        "listings",
        sa.Column("id", KEY, nullable=False),
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("base_id", KEY, nullable=False),
        sa.Column("name", sa.String(length=104), nullable=False),
        sa.Column("is_private", sa.Boolean(), nullable=False),
        sa.Column("family", sa.String(length=64), nullable=False),
        sa.Column("task", sa.String(length=64), nullable=True),
        sa.Column("license", sa.String(length=64), nullable=True),
        sa.Column("rank", KEY, nullable=False),
        sa.Column("vector_bytes", KEY, nullable=False),
        sa.Column("head_bytes", KEY, nullable=False),
        sa.Column("size_bytes", KEY, nullable=False),
        sa.Column("projection", sa.String(length=71), nullable=False),
        sa.Column("downloads", KEY, nullable=False, server_default=sa.text("0")),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_listings_adapter_id"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_listings_account_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_listings_version_id"),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name="fk_listings_base_id"),
        sa.PrimaryKeyConstraint("id", name="pk_listings"),
        sa.UniqueConstraint("adapter_id", name="uq_listings_adapter_id"),
        sa.UniqueConstraint("name", name="uq_listings_name"),
    )
    for column in SORTED_WITHIN:
        op.create_index(f"ix_listings_{column}_id", "listings", [column, "id"], unique=False)


def make_words() -> None:
    """The words of the listings: who has which, but not where in a text, which nobody asks for."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE VIRTUAL TABLE listing_words USING fts5("
            "words, detail = none, prefix = '1 2 3', tokenize = 'unicode61 remove_diacritics 0')"
        )
        return
    op.execute(
        "CREATE TABLE listing_words (listing_id BIGINT CONSTRAINT pk_listing_words PRIMARY KEY "
        "CONSTRAINT fk_listing_words_listing_id REFERENCES listings (id) ON DELETE CASCADE, words TSVECTOR NOT NULL)"
    )
    op.execute("CREATE INDEX ix_listing_words_words ON listing_words USING gin (words)")
