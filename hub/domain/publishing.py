"""Push: from the files of a stranger to a version, or to nothing at all.

The work has two halves. `hub.domain.uploads.check_upload` looks at bytes alone: it takes its time and holds nothing.
`publish_version` runs inside one transaction that its caller commits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Principal, Resource
from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.models.versions import Version
from hub.db.queries import adapters, versions
from hub.db.queries.bases import KnownBase
from hub.domain import blobs
from hub.domain.audit import Change, record
from hub.domain.bases import require_base
from hub.domain.catalog import find_version, head_of, parent_ref, require_served, version_detail
from hub.domain.claiming import NO_QUOTA, Quota, claim_name, require_room
from hub.domain.evaluations import enqueue_for_version, labels_key
from hub.domain.finding import list_new, relist
from hub.domain.projections import get_projection, hold_projection
from hub.domain.shaping import evaluations_of, reported_of, source_view, summary_of
from hub.domain.uploads import Upload, warnings_for
from hub.domain.views.versions import FileView, VersionDetail
from hub.errors import Conflict, PreconditionFailed
from vera.manifest import Task
from vera.ref import AdapterRef, check_adapter_id


@dataclass(frozen=True)
class Published:
    """The version, and whether this push made it, and its adapter."""

    version: VersionDetail
    is_new: bool
    is_adapter_new: bool = False


def publish_version(
    session: Session,
    principal: Principal,
    upload: Upload,
    *,
    namespace: str,
    name: str,
    quota: Quota = NO_QUOTA,
    built_on: int | None = None,
    is_evaluated: bool = True,
) -> Published:
    """Publishes `upload` as the next version of `namespace/name`, which is made when it is new.

    The same push again gives the version that is there. `built_on` is the number of the head that the upload was made
    from (0 for none): PreconditionFailed when it is another one by now. Raises RefError for an impossible name,
    Conflict for one that looks like another or is not what the upload says of it, Invalid for an adapter that
    does not fit its base or whose stored pair is not here, NotFound for a parent that is not there, and Forbidden.
    """
    check_adapter_id(namespace, name)
    base = require_base(session, upload.manifest)
    pair = hold_projection(session, principal, upload.manifest)
    at = db.now(session)
    adapter, is_adapter_new = claim_name(session, principal, Resource(namespace, name), base=base, upload=upload, at=at)
    is_first = adapter.last_number == 0
    known = None if is_first else versions.by_digest(session, adapter.id, upload.manifest.digest)
    if known is not None:
        require_served(known)
        _require_same_release(known, upload)
        return Published(version_detail(session, principal, known), is_new=False)
    _require_head(session, adapter, built_on)
    require_room(session, adapter, upload, quota)
    before = None if is_first else versions.by_number(session, adapter.id, adapter.last_number)
    parent = _find_parent(session, principal, AdapterRef(namespace, name), before, upload.said.parent)
    values = _values_of(upload, base, principal) | {
        "adapter_id": adapter.id,
        "number": adapter.last_number + 1,
        "commit": commit_of(f"{namespace}/{name}", adapter.last_number + 1, upload.manifest.digest, before),
        "stored_projection": pair,
        "parent_id": parent.id if parent else None,
        "created_at": at,
    }
    version = versions.add(session, **values)
    _move_head(session, adapter, version, upload.manifest.task)
    _keep_files(session, version, upload)
    if version.is_prerelease:
        relist(session, adapter, is_change=True)
    else:
        list_new(
            session,
            adapter,
            version,
            name=f"{namespace}/{name}",
            base_name=base.name,
            manifest=upload.spelled,
            facts=upload.facts,
        )
    if is_evaluated:
        enqueue_for_version(session, version, adapter.account_id, fingerprint=base.fingerprint, at=at)
    record(
        session, principal, Change.VERSION_PUSHED, f"{namespace}/{name}@v{version.number}", facts_of(version, adapter)
    )
    view = _view_of_new(session, principal, version, f"{namespace}/{name}", upload)
    return Published(view, is_new=True, is_adapter_new=is_adapter_new)


def head_changed(**facts: object) -> PreconditionFailed:
    """The sentence is one that clients of git-like hubs know."""
    return PreconditionFailed(
        "The branch was updated since you opened this page. Please refresh and try again.", code="HEAD_CHANGED", **facts
    )


def _require_head(session: Session, adapter: Adapter, built_on: int | None) -> None:
    if built_on is None:
        return
    head = head_of(session, adapter)
    if built_on != (head.number if head else 0):
        raise head_changed(expected=built_on, got=head.number if head else 0)


def _require_same_release(known: Version, upload: Upload) -> None:
    """A version is a pre-release or not from its push on: pushing it again as the other would change nothing."""
    said = upload.said.is_prerelease
    if said is None or said == known.is_prerelease:
        return
    is_, wanted = ("a pre-release", "a release") if known.is_prerelease else ("a release", "a pre-release")
    raise Conflict(
        f"v{known.number} has exactly this content, and is {is_}; this push says {wanted}, which a version does not "
        "become afterwards: let an alias mean it, or change the card and push that.",
        code="PRERELEASE_DIFFERS",
        version=known.number,
    )


def _find_parent(
    session: Session, principal: Principal, wanted: AdapterRef, before: Version | None, said: str | None
) -> Version | None:
    """The version that the new one was made from: the one before it, unless the push says another one."""
    if said is None:
        return before
    text = said if "/" in said else f"{wanted.adapter_id}@{said.removeprefix('@')}"
    return find_version(session, principal, AdapterRef.parse(text))


def _values_of(upload: Upload, base: KnownBase, principal: Principal) -> dict[str, Any]:
    """What of a version's row only depends on what was pushed, for which base, and by whom."""
    manifest = upload.manifest
    return {
        "base_id": base.id,
        "created_by_id": principal.account_id,
        "digest": manifest.digest,
        "weights_digest": f"sha256:{manifest.weights.sha256}",
        "method": manifest.method,
        "rank": manifest.recipe.rank,
        "parameters": manifest.parameters,
        "vector_bytes": manifest.weights.vector_bytes,
        "head_bytes": manifest.weights.head_bytes,
        "size_bytes": upload.archive.size_bytes,
        "lora_bytes": manifest.lora_bytes(),
        "labels_sha256": labels_key(manifest.task.labels if manifest.task else ()),
        "message": upload.said.message,
        "card_html": upload.card_html,
        "warnings": warnings_for(upload, base.name),
        "reported": [(each.dataset, each.metric, each.value) for each in upload.facts.reported] or None,
        "provenance": None if principal.provenance is None else dict(principal.provenance),
        "source": upload.said.source,
        "is_prerelease": bool(upload.said.is_prerelease),
    }


def _move_head(session: Session, adapter: Adapter, version: Version, task: Task | None) -> None:
    """Has the adapter, which is held, be what its new version makes of it."""
    changed: dict[str, Any] = {"last_number": version.number, "updated_at": version.created_at}
    if not version.is_prerelease:
        changed["latest_number"] = version.number
    if changed.get("latest_number", adapter.latest_number) in (version.number, None):
        changed |= {
            "base_id": version.base_id,
            "task_kind": task.kind if task else None,
            "labels": list(task.labels) if task else None,
        }
    adapters.change(session, adapter, **changed)


def facts_of(version: Version, adapter: Adapter) -> dict[str, object]:
    """What the record keeps of a push."""
    facts: dict[str, object] = {
        "digest": version.digest,
        "visibility": "private" if adapter.is_private else "public",
        "is_new_adapter": version.number == 1,
    }
    return facts if version.provenance is None else {**facts, "provenance": version.provenance}


def commit_of(adapter_id: str, number: int, digest: str, before: Version | None) -> str:
    """40 hex digits that name this version and, through the one before it, all of those."""
    parent = before.commit if before else ""
    return hashlib.sha256(f"{adapter_id}\n{number}\n{digest}\n{parent}".encode()).hexdigest()[:40]


def _keep_files(session: Session, version: Version, upload: Upload) -> None:
    # In one order for everybody: two pushes that share files then cannot wait for each other.
    files = upload.archive.files
    blobs.record_all(session, {sha256: files[path] for path, sha256 in upload.hashes.items()}, upload.outside)
    versions.add_files(
        session, version.id, {path: (sha256, len(files[path])) for path, sha256 in upload.hashes.items()}
    )


def _view_of_new(
    session: Session, principal: Principal, version: Version, adapter_id: str, upload: Upload
) -> VersionDetail:
    """The version that was just added as `version_detail` shows it, without reading it back."""
    files, pair = upload.archive.files, version.stored_projection
    return VersionDetail(
        **vars(summary_of(version, adapter_id, created_by=principal.name)),
        id=adapter_id,
        manifest=upload.spelled,
        files=tuple(FileView(path, sha256, len(files[path])) for path, sha256 in upload.hashes.items()),
        card_html=version.card_html,
        stored_projection=get_projection(session, principal, pair) if pair else None,
        parent=parent_ref(session, principal, version, adapter_id),
        source=source_view(version),
        aliases=(),
        evaluations=evaluations_of(session, version.id) if version.labels_sha256 else (),
        reported=reported_of(version),
        warnings=tuple(version.warnings),
        provenance=version.provenance,
    )
