"""The first schema: accounts, bases, adapters and their versions, suites and evaluations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=39), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("served_at", MOMENT, nullable=True),
        sa.CheckConstraint("kind IN ('user', 'organisation')", name="ck_accounts_kind"),
        sa.PrimaryKeyConstraint("id", name="pk_accounts"),
        sa.UniqueConstraint("name", name="uq_accounts_name"),
    )
    op.create_table(
        "bases",
        sa.Column("id", KEY, nullable=False),
        sa.Column("fingerprint", sa.String(length=69), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("revision", sa.String(length=200), nullable=True),
        sa.Column("dtype", sa.String(length=16), nullable=False),
        sa.Column("parameters", KEY, nullable=False),
        sa.Column("size_bytes", KEY, nullable=False),
        sa.Column("tensor_count", KEY, nullable=False),
        sa.Column("tensors", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_bases"),
        sa.UniqueConstraint("fingerprint", name="uq_bases_fingerprint"),
    )
    op.create_index("ix_bases_name", "bases", ["name", "id"], unique=False)
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", KEY, nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("data IS NULL OR length(data) = size_bytes", name="ck_blobs_whole"),
        sa.PrimaryKeyConstraint("sha256", name="pk_blobs"),
    )
    op.create_table(
        "suites",
        sa.Column("id", KEY, nullable=False),
        sa.Column("name", sa.String(length=130), nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("metric", sa.String(length=32), nullable=False),
        sa.Column("items", KEY, nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("labels_sha256", sa.String(length=64), nullable=True),
        sa.Column("baselines", sa.Text(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_suites"),
        sa.UniqueConstraint("name", "digest", name="uq_suites_name_digest"),
    )
    op.create_index("ix_suites_labels_sha256", "suites", ["labels_sha256"], unique=False)
    op.create_index(
        "uq_suites_current",
        "suites",
        ["name"],
        unique=True,
        sqlite_where=sa.text("is_current"),
        postgresql_where=sa.text("is_current"),
    )
    op.create_table(
        "adapters",
        sa.Column("id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("folded_name", sa.String(length=64), nullable=False),
        sa.Column("base_id", KEY, nullable=False),
        sa.Column("task_kind", sa.String(length=64), nullable=True),
        sa.Column("labels", sa.Text(), nullable=True),
        sa.Column("last_number", KEY, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("updated_at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_adapters_account_id"),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name="fk_adapters_base_id"),
        sa.PrimaryKeyConstraint("id", name="pk_adapters"),
        sa.UniqueConstraint("account_id", "folded_name", name="uq_adapters_account_id_folded_name"),
        sa.UniqueConstraint("account_id", "name", name="uq_adapters_account_id_name"),
    )
    op.create_index("ix_adapters_base_id", "adapters", ["base_id"], unique=False)
    op.create_index("ix_adapters_task_kind", "adapters", ["task_kind"], unique=False)
    op.create_index("ix_adapters_updated_at", "adapters", ["updated_at", "id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("id", KEY, nullable=False),
        sa.Column("account_id", KEY, nullable=False),
        sa.Column("kind", sa.String(length=1), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("last4", sa.String(length=4), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.Column("last_used_at", MOMENT, nullable=True),
        sa.Column("revoked_at", MOMENT, nullable=True),
        sa.CheckConstraint("kind IN ('p', 'w', 'b')", name="ck_tokens_kind"),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name="fk_tokens_account_id"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("hash", name="uq_tokens_hash"),
    )
    op.create_index("ix_tokens_account_id", "tokens", ["account_id"], unique=False)
    op.create_table(
        "versions",
        sa.Column("id", KEY, nullable=False),
        sa.Column("adapter_id", KEY, nullable=False),
        sa.Column("base_id", KEY, nullable=False),
        sa.Column("created_by_id", KEY, nullable=False),
        sa.Column("number", KEY, nullable=False),
        sa.Column("digest", sa.String(length=71), nullable=False),
        sa.Column("weights_digest", sa.String(length=71), nullable=False),
        sa.Column("commit", sa.String(length=40), nullable=False),
        sa.Column("rank", KEY, nullable=False),
        sa.Column("parameters", KEY, nullable=False),
        sa.Column("vector_bytes", KEY, nullable=False),
        sa.Column("head_bytes", KEY, nullable=False),
        sa.Column("size_bytes", KEY, nullable=False),
        sa.Column("lora_bytes", KEY, nullable=False),
        sa.Column("labels_sha256", sa.String(length=64), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("card_html", sa.Text(), nullable=False),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.CheckConstraint("number >= 1", name="ck_versions_number"),
        sa.ForeignKeyConstraint(["adapter_id"], ["adapters.id"], name="fk_versions_adapter_id"),
        sa.ForeignKeyConstraint(["base_id"], ["bases.id"], name="fk_versions_base_id"),
        sa.ForeignKeyConstraint(["created_by_id"], ["accounts.id"], name="fk_versions_created_by_id"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("adapter_id", "digest", name="uq_versions_adapter_id_digest"),
        sa.UniqueConstraint("adapter_id", "number", name="uq_versions_adapter_id_number"),
        sa.UniqueConstraint("commit", name="uq_versions_commit"),
    )
    op.create_index("ix_versions_digest", "versions", ["digest"], unique=False)
    op.create_index("ix_versions_labels_sha256", "versions", ["labels_sha256", "base_id"], unique=False)
    op.create_table(
        "workers",
        sa.Column("id", KEY, nullable=False),
        sa.Column("token_id", KEY, nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("last_seen_at", MOMENT, nullable=False),
        sa.Column("suite_ids", sa.Text(), nullable=False),
        sa.Column("bases", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["token_id"], ["tokens.id"], name="fk_workers_token_id"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
        sa.UniqueConstraint("token_id", "name", name="uq_workers_token_id_name"),
    )
    op.create_index("ix_workers_last_seen_at", "workers", ["last_seen_at"], unique=False)
    op.create_table(
        "evaluations",
        sa.Column("id", KEY, nullable=False),
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("suite_id", KEY, nullable=False),
        sa.Column("owner_id", KEY, nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("spec_digest", sa.String(length=71), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("worker_id", KEY, nullable=True),
        sa.Column("lease_expires_at", MOMENT, nullable=True),
        sa.Column("fence", KEY, nullable=False),
        sa.Column("attempts", KEY, nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("outcomes", sa.LargeBinary(), nullable=True),
        sa.Column("outputs_sha256", sa.String(length=64), nullable=True),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.CheckConstraint(
            "state <> 'done' OR (score IS NOT NULL AND outcomes IS NOT NULL)", name="ck_evaluations_scored"
        ),
        sa.CheckConstraint(
            "state <> 'running' OR (worker_id IS NOT NULL AND lease_expires_at IS NOT NULL)",
            name="ck_evaluations_leased",
        ),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed')", name="ck_evaluations_state"),
        sa.ForeignKeyConstraint(["outputs_sha256"], ["blobs.sha256"], name="fk_evaluations_outputs_sha256"),
        sa.ForeignKeyConstraint(["owner_id"], ["accounts.id"], name="fk_evaluations_owner_id"),
        sa.ForeignKeyConstraint(["suite_id"], ["suites.id"], name="fk_evaluations_suite_id"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_evaluations_version_id"),
        sa.ForeignKeyConstraint(["worker_id"], ["workers.id"], name="fk_evaluations_worker_id"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint("version_id", "spec_digest", name="uq_evaluations_version_id_spec_digest"),
    )
    op.create_index("ix_evaluations_queue", "evaluations", ["state", "owner_id", "id"], unique=False)
    op.create_index("ix_evaluations_suite_id_state", "evaluations", ["suite_id", "state"], unique=False)
    op.create_table(
        "version_files",
        sa.Column("version_id", KEY, nullable=False),
        sa.Column("path", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", KEY, nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name="fk_version_files_sha256"),
        sa.ForeignKeyConstraint(["version_id"], ["versions.id"], name="fk_version_files_version_id"),
        sa.PrimaryKeyConstraint("version_id", "path", name="pk_version_files"),
    )
    op.create_index("ix_version_files_sha256", "version_files", ["sha256"], unique=False)
