"""The method of each version, by which boards are narrowed down. Of versions there are, as their manifests say."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_AT_ONCE = 500


def upgrade() -> None:
    op.add_column("versions", sa.Column("method", sa.String(length=16), nullable=True))
    connection, last = op.get_bind(), 0
    manifests = sa.text(
        "SELECT v.id, b.data FROM versions v JOIN version_files f ON f.version_id = v.id AND f.path = 'vera.json' "
        "JOIN blobs b ON b.sha256 = f.sha256 WHERE v.id > :last AND b.data IS NOT NULL ORDER BY v.id LIMIT :most"
    )
    while rows := connection.execute(manifests, {"last": last, "most": _AT_ONCE}).all():
        found = [{"id": version_id, "method": _method(bytes(data))} for version_id, data in rows]
        connection.execute(sa.text("UPDATE versions SET method = :method WHERE id = :id"), found)
        last = rows[-1][0]


def _method(manifest: bytes) -> str | None:
    try:
        said = json.loads(manifest).get("method")
    except (ValueError, AttributeError):  # a blob that has changed since: the check of the storage tells
        return None
    return said if isinstance(said, str) and len(said) <= 16 else None
