"""Push: from the files of a stranger to a version, or to nothing at all.

The work has two halves. `check_upload` looks at bytes alone: it takes its time and holds nothing.
`publish_version` runs inside one transaction that its caller commits.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from sqlalchemy import insert
from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, authorize
from hub.db import session as db
from hub.db.models.adapters import Adapter, Base
from hub.db.models.versions import Version, VersionFile
from hub.db.queries import accounts, adapters, bases, moves, versions
from hub.db.queries.inserting import insert_new
from hub.domain import blobs
from hub.domain.audit import Change, record
from hub.domain.bases import shapes_of
from hub.domain.cards import MAX_RENDERED, CardFacts, read_facts
from hub.domain.catalog import find_version, head_of, parent_ref, require_served, version_detail
from hub.domain.evaluations import enqueue_for_version, labels_key
from hub.domain.finding import list_new, relist
from hub.domain.projections import get_projection, hold_projection
from hub.domain.shaping import evaluations_of, reported_of, source_view, summary_of
from hub.domain.views.versions import FileView, VersionDetail
from hub.errors import Conflict, Forbidden, HubError, Invalid, PreconditionFailed, Unavailable
from hub.storage.blobs import BlobStore
from vera import archive
from vera.archive import Archive
from vera.errors import ArchiveError
from vera.manifest import CARD_FILE, EXTRA_FILES, MANIFEST_FILE, WEIGHTS_FILE, AdaptedModule, Manifest
from vera.ref import AdapterRef, check_adapter_id, fold_name

MAX_MESSAGE = 1000
MAX_LINK = 500
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Said:
    """What a push says beside its files; None is what it leaves unsaid.

    `is_private` is who may see an adapter that is new. `parent` is the version it was made from: `v2` of the same
    adapter, or a reference. `commit` and `run` are the commit and the CI run that made it.
    """

    message: str | None = None
    is_private: bool | None = None
    is_prerelease: bool | None = None
    parent: str | None = None
    commit: str | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        """Raises Invalid for what cannot be kept as said."""
        _check_message(self.message)
        if self.commit is not None and not _COMMIT.fullmatch(self.commit):
            raise Invalid("The source commit must be 40 or 64 hex digits, as git has them.", code="SOURCE_INVALID")
        if self.run is not None:
            _check_link(self.run)

    @property
    def source(self) -> dict[str, str] | None:
        """Where it was made, as it is kept."""
        said = {"commit": self.commit, "run": self.run}
        return {name: value for name, value in said.items() if value is not None} or None


@dataclass(frozen=True)
class Upload:
    """A checked push. `outside` names the blobs that are in the object store already."""

    archive: Archive
    card_html: str
    said: Said = field(default_factory=Said)
    # What is to stand with the version's warnings.
    notes: tuple[str, ...] = ()
    outside: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        return self.archive.manifest

    @cached_property
    def hashes(self) -> Mapping[str, str]:
        """The SHA-256 of each file, which `inspect` has proven to be what the manifest says."""
        manifest = self.manifest
        proven = {path: entry.sha256 for path, entry in manifest.files.items()}
        proven |= {WEIGHTS_FILE: manifest.weights.sha256, MANIFEST_FILE: manifest.digest.removeprefix("sha256:")}
        return {path: proven[path] for path in sorted(self.archive.files)}

    @cached_property
    def spelled(self) -> Mapping[str, Any]:
        """The manifest as `vera.json` spells it."""
        found: dict[str, Any] = json.loads(self.archive.files[MANIFEST_FILE])
        return found

    @cached_property
    def facts(self) -> CardFacts:
        """What the card says to machines."""
        return read_facts(self.archive.card)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed and probably not meant, whatever base is registered here."""
        return tuple(_warnings_of(self))


@dataclass(frozen=True)
class Quota:
    """How much one user, or one organisation, may keep here. None is any amount."""

    adapters: int | None = None
    size_bytes: int | None = None


NO_QUOTA = Quota()


@dataclass(frozen=True)
class Published:
    """The version, and whether this push made it, and its adapter."""

    version: VersionDetail
    is_new: bool
    is_adapter_new: bool = False


def check_upload(files: Mapping[str, bytes], said: Said | None = None) -> Upload:
    """The adapter that `files` are. Raises a VeraError for the first thing that is wrong with it."""
    return upload_of(archive.inspect(files), said)


def upload_of(checked: Archive, said: Said | None = None, *, notes: tuple[str, ...] = ()) -> Upload:
    """A checked archive as a push. Raises ArchiveError for one that is not sealed."""
    for path in EXTRA_FILES:
        if path not in checked.manifest.files:
            raise ArchiveError(
                f"{MANIFEST_FILE} does not name {path}, so a change to it would go unseen: "
                "push the folder with vera-hub, which seals it.",
                code="FILE_MISSING",
                path=path,
            )
    from hub.domain.rendering import render_card  # 2 MB, which an idle hub does not need

    upload = Upload(checked, render_card(checked.card), said or Said(), notes)
    _ = upload.hashes, upload.spelled, upload.warnings  # looked at now, and not while everybody else waits to write
    return upload


def require_base(session: Session, manifest: Manifest) -> Base:
    """The base that the adapter is for, proven to have every adapted module in the size the manifest says.

    Raises Invalid.
    """
    base = bases.find(session, manifest.base.fingerprint)
    if base is None:
        raise Invalid(
            f"The base {manifest.base.name} ({manifest.base.fingerprint}) is not registered here: register it first "
            "with `vera-hub base add`.",
            code="BASE_UNKNOWN",
            fingerprint=manifest.base.fingerprint,
            name=manifest.base.name,
        )
    shapes = shapes_of(session, base)
    for module in manifest.modules:
        _check_target(module, shapes, base.name)
    return base


def put_large_files(objects: BlobStore | None, upload: Upload) -> Upload:
    """`upload` with its large files put into the object store, when there is one.

    The manifest stays in the database, where every version's page reads it, and so does the card, by whose
    words adapters are found.
    """
    large = [data for path, data in upload.archive.files.items() if path not in (MANIFEST_FILE, CARD_FILE)]
    return replace(upload, outside=blobs.put_large(objects, large))


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
    adapter, is_adapter_new = _claim_name(
        session, principal, Resource(namespace, name), base=base, upload=upload, at=at
    )
    is_first = adapter.last_number == 0
    known = None if is_first else versions.by_digest(session, adapter.id, upload.manifest.digest)
    if known is not None:
        require_served(known)
        _require_same_release(known, upload)
        return Published(version_detail(session, principal, known), is_new=False)
    _require_head(session, adapter, built_on)
    _require_room(session, adapter, upload, quota)
    parent = _find_parent(session, principal, AdapterRef(namespace, name), adapter, upload.said.parent)
    version = _add_version(
        session, adapter, base, upload, pair=pair, parent=parent, namespace=namespace, principal=principal, at=at
    )
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
        enqueue_for_version(session, version, base, adapter.account_id, at=at)
    record(
        session, principal, Change.VERSION_PUSHED, f"{namespace}/{name}@v{version.number}", facts_of(version, adapter)
    )
    view = _view_of_new(session, principal, version, f"{namespace}/{name}", upload)
    return Published(view, is_new=True, is_adapter_new=is_adapter_new)


def _check_message(message: str | None) -> None:
    if message is not None and (
        len(message) > MAX_MESSAGE or not message.replace("\n", "").replace("\t", "").isprintable()
    ):
        raise Invalid(
            f"The message may have {MAX_MESSAGE} characters of text, none of them a control character.",
            code="MESSAGE_INVALID",
        )


def _check_link(text: str) -> None:
    """A page shows it as a link, and what it must not show are the credentials that such addresses hold at times."""
    try:
        parts = urlsplit(text)
        is_fine = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        is_fine = False
    if not is_fine or len(text) > MAX_LINK or not text.isascii() or not text.isprintable() or " " in text:
        raise Invalid(
            f"The CI run must be an http(s) address of at most {MAX_LINK} characters, without a user in it.",
            code="SOURCE_INVALID",
        )


def _check_target(module: AdaptedModule, shapes: Mapping[str, tuple[int, ...]], base: str) -> None:
    shape = shapes.get(module.weight)
    if shape is None:
        raise Invalid(
            f"{base} has no tensor {module.weight}, and the adapter adapts {module.name}: is it an adapter of this base?",
            code="TARGET_UNKNOWN",
            module=module.name,
            base=base,
        )
    expected = (module.out_features, module.in_features)
    # A Conv1D layer, as GPT-2 has them, keeps its weight as (in, out), and so does an embedding.
    if shape not in (expected, expected[::-1]):
        raise Invalid(
            f"{module.name} is {expected} (out, in) in the adapter and {shape} in {base}: "
            "it was trained on another model.",
            code="DIMS_MISMATCH",
            module=module.name,
            expected=list(shape),
            got=list(expected),
        )


def _claim_name(
    session: Session, principal: Principal, wanted: Resource, *, base: Base, upload: Upload, at: datetime
) -> tuple[Adapter, bool]:
    """The adapter of this name, made when it is new, held until the transaction ends; and whether it is new."""
    authorize(principal, Action.PUSH, wanted)
    owner_id, name = principal.account_in(wanted.namespace), wanted.adapter or ""
    folded = fold_name(name)
    is_new = insert_new(
        session,
        Adapter,
        account_id=owner_id,
        name=name,
        folded_name=folded,
        base_id=base.id,
        is_private=bool(upload.said.is_private),
        last_number=0,
        created_at=at,
        updated_at=at,
    )
    if is_new:
        authorize(principal, Action.CREATE_ADAPTER, wanted)
        require_unmoved(session, owner_id, wanted)
    adapter = adapters.hold(session, owner_id, name)
    if adapter is not None:
        _require_same_visibility(adapter, wanted, upload)
        return adapter, is_new
    raise name_taken(session, owner_id, wanted, folded)


def name_taken(session: Session, owner_id: int, wanted: Resource, folded: str) -> HubError:
    """Why a name is not to be had that nobody has: one that looks like it is there."""
    similar = adapters.name_like(session, owner_id, folded)
    if similar is None:  # the push that had it was rolled back just now
        return Unavailable(f"{wanted.id} is being pushed by someone else: try again.", code="DB_BUSY")
    return Conflict(
        f"{wanted.id} looks like {wanted.namespace}/{similar}, which exists: choose a name that cannot be "
        "taken for it, or push a new version of it.",
        code="NAME_TOO_SIMILAR",
        name=wanted.adapter,
        similar=similar,
    )


def require_unmoved(session: Session, owner_id: int, wanted: Resource, *, but_for: int | None = None) -> None:
    """Raises Conflict for a name that leads to an adapter which has moved, unless that is the one `but_for`."""
    holder = moves.holder(session, owner_id, wanted.adapter or "")
    if holder not in (None, but_for):
        raise Conflict(
            f"{wanted.id} is the name of an adapter that has moved, and leads to it: push there, or choose another name.",
            code="NAME_MOVED",
            name=wanted.id,
        )


def head_changed(**facts: object) -> PreconditionFailed:
    """The sentence is one that clients of git-like hubs know."""
    return PreconditionFailed(
        "The branch was updated since you opened this page. Please refresh and try again.", code="HEAD_CHANGED", **facts
    )


def over_quota(what: str, wanted: int, limit: int) -> Forbidden:
    return Forbidden(
        f"With this push its owner would have {wanted:,} {what} here, and may have {limit:,}: push to another "
        "namespace, or ask the hub's operator for more.",
        code="QUOTA_EXCEEDED",
        what=what,
        limit=limit,
        wanted=wanted,
    )


def _require_head(session: Session, adapter: Adapter, built_on: int | None) -> None:
    if built_on is None:
        return
    head = head_of(session, adapter)
    if built_on != (head.number if head else 0):
        raise head_changed(expected=built_on, got=head.number if head else 0)


def _require_room(session: Session, adapter: Adapter, upload: Upload, quota: Quota) -> None:
    """Raises Forbidden when the new version, and its adapter where that is new, are more than the owner may keep."""
    if quota == NO_QUOTA:
        return
    accounts.hold(session, adapter.account_id)  # two pushes at once do not both take the last of it
    adapter_count, size_bytes = accounts.usage(session, adapter.account_id)  # this adapter is counted already
    for what, limit, wanted in (
        ("adapters", quota.adapters, adapter_count),
        ("bytes", quota.size_bytes, size_bytes + upload.archive.size_bytes),
    ):
        if limit is not None and wanted > limit:
            raise over_quota(what, wanted, limit)


def _require_same_visibility(adapter: Adapter, wanted: Resource, upload: Upload) -> None:
    """A push that says "private" must never make something public, nor the other way round."""
    if upload.said.is_private is None or upload.said.is_private == adapter.is_private:
        return
    has, said = ("private", "public") if adapter.is_private else ("public", "private")
    raise Conflict(
        f"{wanted.id} is {has} and this push says {said}: leave that out, or have a maintainer change it with "
        f"`vera-hub visibility {wanted.id} {said}`. Nothing was published.",
        code="VISIBILITY_DIFFERS",
        expected=said,
        got=has,
    )


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
    session: Session, principal: Principal, wanted: AdapterRef, adapter: Adapter, said: str | None
) -> Version | None:
    """The version that the new one was made from: the one before it, unless the push says another one."""
    if said is None and adapter.last_number == 0:
        return None
    if said is None:
        return versions.by_number(session, adapter.id, adapter.last_number)
    text = said if "/" in said else f"{wanted.adapter_id}@{said.removeprefix('@')}"
    return find_version(session, principal, AdapterRef.parse(text))


def _add_version(
    session: Session,
    adapter: Adapter,
    base: Base,
    upload: Upload,
    *,
    pair: str | None,
    parent: Version | None,
    namespace: str,
    principal: Principal,
    at: datetime,
) -> Version:
    manifest, number = upload.manifest, adapter.last_number + 1
    before = versions.by_number(session, adapter.id, adapter.last_number) if adapter.last_number else None
    version = Version(
        adapter_id=adapter.id,
        base_id=base.id,
        created_by_id=principal.account_id,
        number=number,
        digest=manifest.digest,
        weights_digest=f"sha256:{manifest.weights.sha256}",
        commit=commit_of(f"{namespace}/{adapter.name}", number, manifest.digest, before.commit if before else None),
        method=manifest.method,
        rank=manifest.recipe.rank,
        parameters=manifest.parameters,
        vector_bytes=manifest.weights.vector_bytes,
        head_bytes=manifest.weights.head_bytes,
        size_bytes=upload.archive.size_bytes,
        lora_bytes=manifest.lora_bytes(),
        labels_sha256=labels_key(manifest.task.labels if manifest.task else ()),
        message=upload.said.message,
        card_html=upload.card_html,
        warnings=warnings_for(upload, base.name),
        reported=[(each.dataset, each.metric, each.value) for each in upload.facts.reported] or None,
        provenance=None if principal.provenance is None else dict(principal.provenance),
        stored_projection=pair,
        created_at=at,
        parent_id=parent.id if parent else None,
        source=upload.said.source,
        is_prerelease=bool(upload.said.is_prerelease),
    )
    session.add(version)
    adapter.last_number, adapter.updated_at = number, at
    if not version.is_prerelease:
        adapter.latest_number = number
    if adapter.latest_number in (number, None):
        adapter.base_id = base.id
        adapter.task_kind = manifest.task.kind if manifest.task else None
        adapter.labels = list(manifest.task.labels) if manifest.task else None
    session.flush()
    return version


def facts_of(version: Version, adapter: Adapter) -> dict[str, object]:
    """What the record keeps of a push."""
    facts: dict[str, object] = {
        "digest": version.digest,
        "visibility": "private" if adapter.is_private else "public",
        "is_new_adapter": version.number == 1,
    }
    return facts if version.provenance is None else {**facts, "provenance": version.provenance}


def commit_of(adapter_id: str, number: int, digest: str, parent: str | None) -> str:
    """40 hex digits that name this version and, through its parent, all before it."""
    return hashlib.sha256(f"{adapter_id}\n{number}\n{digest}\n{parent or ''}".encode()).hexdigest()[:40]


def warnings_for(upload: Upload, registered_base: str) -> list[str]:
    """What is allowed and probably not meant."""
    called, found = upload.manifest.base.name, list(upload.notes)
    if called != registered_base:
        found.append(f"The manifest calls its base {called}; it is registered here as {registered_base}.")
    return [*found, *upload.warnings]


def _warnings_of(upload: Upload) -> Iterator[str]:
    manifest = upload.manifest
    # DVoRA's magnitudes change the model without any λb.
    if not manifest.has_magnitude and not any(np.any(vector) for vector in archive.lambda_b_of(upload.archive)):
        yield "Every λb is zero: this adapter changes nothing. Was it trained?"
    yield from upload.facts.warnings
    if len(upload.archive.card) > MAX_RENDERED:
        yield f"The card is long: its page shows the first {MAX_RENDERED:,} characters."


def _keep_files(session: Session, version: Version, upload: Upload) -> None:
    # In one order for everybody: two pushes that share files then cannot wait for each other.
    files = upload.archive.files
    blobs.record_all(session, {sha256: files[path] for path, sha256 in upload.hashes.items()}, upload.outside)
    session.execute(
        insert(VersionFile),
        [
            {"version_id": version.id, "path": path, "sha256": sha256, "size_bytes": len(files[path])}
            for path, sha256 in upload.hashes.items()
        ],
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
