"""`admin export`: a registry, or one namespace of it, as plain folders that need nothing of this project to be read.

export.json                          what is in here, and who is in which organisation
bases/<fingerprint>.json             the tensor table of each base that an adapter needs
projections/<sha256>                 the stored pairs they need
adapters/<namespace>/<name>/adapter.json    visibility, gate and who was let in, versions and aliases
adapters/<namespace>/<name>/v1/      the adapter, as `vera-hub pull` writes it
"""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from hub.care import files
from hub.db.folder import prepare_folder
from hub.db.models.accounts import Account
from hub.db.models.adapters import AccessRequest, Adapter
from hub.db.models.versions import Version
from hub.db.queries import access, accounts, aliases, versions
from hub.db.queries import projections as projection_rows
from hub.db.session import Database
from hub.domain import blobs
from hub.domain.bases import tensor_table
from hub.domain.shaping import ref_of
from hub.errors import Conflict, NotFound
from hub.storage.objects import ObjectBlobs

# 2 says which adapters are gated: a release that does not know would give them to everybody.
FORMAT = 2
CONTENTS = "export.json"


def export(database: Database, objects: ObjectBlobs | None, folder: Path, *, namespace: str | None = None) -> int:
    """Writes the adapters of `namespace`, or all, into `folder`, which appears when it is whole; says how many
    versions. Raises Conflict when there is such a folder, and NotFound for a namespace that is not there."""
    if folder.exists():
        raise Conflict(f"{folder} is there already: name a new folder.", code="EXPORT_EXISTS")
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    prepare_folder(fresh)
    try:
        with database.reading() as session:
            written = _write_all(session, objects, fresh, namespace)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    fresh.rename(folder)
    return written


def _write_all(session: Session, objects: ObjectBlobs | None, folder: Path, namespace: str | None) -> int:
    owners = list(session.scalars(_owners(namespace)))
    if namespace is not None and not owners:
        raise NotFound(f"There is no namespace {namespace} here: check the name.", code="NAMESPACE_UNKNOWN")
    written = 0
    for owner in owners:
        for adapter in session.scalars(_adapters_of(owner)):
            written += _write_adapter(session, objects, folder, adapter)
    contents = {
        "format": FORMAT,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "namespaces": [_owner(session, owner) for owner in owners],
    }
    files.keep(folder / CONTENTS, _json(contents))
    return written


def _write_adapter(session: Session, objects: ObjectBlobs | None, folder: Path, adapter: Adapter) -> int:
    place = folder / "adapters" / adapter.account.name / adapter.name
    served = [each for each in reversed(versions.all_of(session, adapter.id)) if each.deleted_at is None]
    for version in served:
        _write_base(session, folder, version)
        _write_pair(session, objects, folder, version)
        for file in versions.files_of(session, version.id):
            data = blobs.bytes_of(blobs.locate(session, file.sha256), objects)
            files.keep(place / f"v{version.number}" / file.path, data)
    described = {
        "visibility": "private" if adapter.is_private else "public",
        "gate": adapter.gate,
        "last_number": adapter.last_number,
        "access": [_request(each) for each in access.page(session, adapter.id, None, after=None, limit=None)],
        "versions": [{**_version(each), "parent": _parent(session, each)} for each in served],
        "aliases": [
            {"name": each.alias.name, "version": each.version.number, "protected": each.alias.is_protected}
            for each in aliases.all_of(session, adapter.id)
        ],
    }
    files.keep(place / "adapter.json", _json(described))
    return len(served)


def _write_base(session: Session, folder: Path, version: Version) -> None:
    base = version.base
    path = folder / "bases" / f"{base.fingerprint.replace(':', '-')}.json"
    if not path.exists():
        tensors = [list(row) for row in tensor_table(session, base.id)]
        files.keep(path, _json({"name": base.name, "revision": base.revision, "tensors": tensors}))


def _write_pair(session: Session, objects: ObjectBlobs | None, folder: Path, version: Version) -> None:
    digest = version.stored_projection
    if digest is None or (path := folder / "projections" / digest.partition(":")[2]).exists():
        return
    pieces = projection_rows.pieces_of(session, digest)
    files.keep(path, b"".join(blobs.bytes_of(blobs.locate(session, each), objects) for each in pieces))


def _version(version: Version) -> dict[str, Any]:
    return {
        "number": version.number,
        "digest": version.digest,
        "commit": version.commit,
        "message": version.message,
        "created_at": version.created_at.isoformat(),
        "created_by": version.created_by.name,
        "prerelease": version.is_prerelease,
        "source": version.source,
        "provenance": version.provenance,
        "yanked": version.yank_reason,
        "deprecated": version.deprecation,
        "replacement": version.replacement,
        "quarantined": version.quarantine_reason,
    }


def _parent(session: Session, version: Version) -> str | None:
    """What the version was made from; None where that is somebody else's and private, whose name is not given away."""
    parent = None if version.parent_id is None else versions.by_id(session, version.parent_id)
    if parent is None or (parent.adapter.is_private and parent.adapter.account_id != version.adapter.account_id):
        return None
    return ref_of(parent)


def _request(asked: AccessRequest) -> dict[str, Any]:
    return {
        "user": asked.account.name,
        "state": asked.state,
        "message": asked.message,
        "reason": asked.reason,
        "created_at": asked.created_at.isoformat(),
        "decided_at": asked.decided_at.isoformat() if asked.decided_at else None,
        "decided_by": asked.decided_by.name if asked.decided_by else None,
    }


def _owner(session: Session, owner: Account) -> dict[str, Any]:
    members = accounts.members(session, owner.id) if owner.kind == "organisation" else []
    roles = [{"user": each.user.name, "role": each.role} for each in members]
    return {"name": owner.name, "kind": owner.kind, "members": roles, "mirrored_from": owner.mirrored_from}


def _owners(namespace: str | None) -> Any:
    query = select(Account).where(Account.id.in_(select(Adapter.account_id))).order_by(Account.name)
    return query if namespace is None else query.where(Account.name == namespace)


def _adapters_of(owner: Account) -> Any:
    query = select(Adapter).where(Adapter.account_id == owner.id).order_by(Adapter.name)
    return query.options(joinedload(Adapter.account))


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()
