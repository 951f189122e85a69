"""Finding adapters and their versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Action, Principal, Resource, Scope, authorize, unknown_adapter, viewer_of
from hub.db import session as db
from hub.db.models.adapters import Adapter
from hub.db.models.evaluating import Evaluation
from hub.db.models.versions import Version
from hub.db.queries import adapters, aliases, evaluations, listings, moves, versions
from hub.db.queries import blobs as blob_rows
from hub.db.queries.blobs import Holder
from hub.db.queries.versions import Given, KeptFile
from hub.domain import blobs, projections
from hub.domain.audit import Change, record
from hub.domain.shaping import (
    adapter_id,
    adapter_view,
    alias_view,
    deprecation_view,
    evaluation_views,
    evaluations_of,
    ref_of,
    reported_of,
    source_view,
    version_summary,
)
from hub.domain.views.adapters import AdapterDetail, AdapterView
from hub.domain.views.evaluations import EvaluationView
from hub.domain.views.versions import BundledView, FileView, VersionDetail, VersionSummary
from hub.errors import Conflict, Forbidden, Gone, Moved, NotFound, Withheld
from hub.scoring import metrics
from hub.storage.blobs import missing, proven
from hub.storage.table import TableBlobs
from vera.manifest import CARD_FILE, CONFIG_FILE, MANIFEST_FILE, WEIGHTS_FILE
from vera.ref import AdapterRef, SelectorKind


def get_adapter(session: Session, reader: Principal | None, namespace: str, name: str) -> AdapterDetail:
    """The adapter, all of its versions and its aliases. Raises NotFound."""
    adapter = find_adapter(session, reader, namespace, name)
    return AdapterDetail(
        **vars(adapter_view(adapter)),
        versions=tuple(version_summary(version) for version in versions.all_of(session, adapter.id)),
        aliases=tuple(alias_view(adapter, each) for each in aliases.all_of(session, adapter.id)),
    )


def resolve_version(session: Session, reader: Principal | None, ref: AdapterRef) -> VersionDetail:
    """The version that `ref` means. Raises NotFound, and Conflict when it is not the one its digest pins."""
    return version_detail(session, reader, find_version(session, reader, ref))


def latest_versions(session: Session, listed: Sequence[AdapterView]) -> Mapping[str, VersionSummary]:
    """The latest version of each adapter of a list, by adapter id."""
    found = versions.latest_of_each(session, [(each.namespace, each.name) for each in listed])
    return {adapter_id(version.adapter): version_summary(version) for version in found}


def best_evaluations(session: Session, listed: Sequence[AdapterView]) -> Mapping[str, EvaluationView]:
    """The best finished evaluation of the latest version of each adapter of a list, by adapter id; one of which less
    is better only where there is no other, as it is on no common scale."""
    latest = versions.latest_of_each(session, [(each.namespace, each.name) for each in listed])
    finished = evaluations.finished_of(session, [version.id for version in latest])
    best_first = sorted(finished, key=_goodness)
    views = evaluation_views(session, [evaluations.Placed(each, None) for each in best_first])
    return {view.ref.partition("@")[0]: view for view in reversed(views)}  # the best comes last and stays


def _goodness(evaluation: Evaluation) -> tuple[bool, float]:
    is_lower_better, score = metrics.known(evaluation.suite.metric).is_lower_better, evaluation.score or 0.0
    return is_lower_better, score if is_lower_better else -score


def require_file(
    session: Session, reader: Principal | None, ref: AdapterRef, sha256: str
) -> tuple[Adapter, tuple[int, ...]]:
    """The adapter, and the versions of which this is the first time that somebody fetches a file: `note_fetch` them.

    Raises NotFound unless some version of this adapter that can be had has a file with this hash: a blob is
    reached only through an adapter, so knowing a hash opens nothing. Raises Forbidden for a file of a gated adapter
    that is not given to `reader`: of such a one only the card is.
    """
    adapter = find_adapter(session, reader, ref.namespace, ref.name)
    holders = blob_rows.holders(session, adapter.id, sha256)
    if not holders:
        raise missing(sha256)
    if all(each.path != CARD_FILE for each in holders):
        require_given(session, reader, adapter)
    return adapter, tuple(each.version_id for each in holders if _is_first_fetch(reader, each))


def find_given(session: Session, reader: Principal | None, ref: AdapterRef) -> Given:
    """`find_version`, of columns alone and in one statement where `ref` names a number, as it mostly does: entities take
    several times as long. What is not found so is looked for there, which raises what is wrong with it."""
    if ref.selector_kind is SelectorKind.VERSION:
        number = int((ref.selector or "")[1:])
        found = versions.find_given(session, viewer_of(reader), ref.namespace, ref.name, number)
        if found is not None and ref.digest in (None, found.digest):
            authorize(reader, Action.READ, Resource(ref.namespace, ref.name, found.is_private))
            return found
    return given_of(find_version(session, reader, ref))


def given_of(version: Version) -> Given:
    adapter = version.adapter
    return Given(
        version_id=version.id,
        adapter_id=adapter.id,
        namespace=adapter.account.name,
        name=adapter.name,
        is_private=adapter.is_private,
        gate=adapter.gate,
        number=version.number,
        commit=version.commit,
        digest=version.digest,
        weights_digest=version.weights_digest,
        size_bytes=version.size_bytes,
        yank_reason=version.yank_reason,
        deprecation=version.deprecation,
        replacement=version.replacement,
        created_by_id=version.created_by_id,
        fetched_at=version.fetched_at,
    )


def carried_files(session: Session, reader: Principal | None, version: Given) -> dict[str, bytes] | None:
    """The manifest of a version and what does not follow from it, by path; None where that is too much for an answer, lies
    elsewhere or is not given to `reader`: each file is then asked for by its hash. Whoever gives it notes the fetch.
    """
    if version.size_bytes > blobs.INLINE_BYTES:
        return None
    try:
        _require_given_to(session, reader, version)
    except Forbidden:
        return None
    found = {
        path: each
        for path, each in blob_rows.find_of_version(session, version.version_id).items()
        if path != CONFIG_FILE
    }
    carried = {path: proven(each.sha256, each.data) for path, each in found.items() if each.data is not None}
    return carried if len(carried) == len(found) else None


def bundled_view(version: Given) -> BundledView:
    return BundledView(
        version=version.number,
        commit=version.commit,
        digest=version.digest,
        yanked=version.yank_reason,
        deprecated=deprecation_view(version.deprecation, version.replacement),
    )


def first_fetch(reader: Principal | None, version: Given) -> tuple[int, ...]:
    """The version, when this is the first time that somebody fetches it: `note_fetch` it."""
    held = Holder(version.version_id, version.created_by_id, version.fetched_at, WEIGHTS_FILE)
    return (version.version_id,) if _is_first_fetch(reader, held) else ()


def note_fetch(session: Session, version_ids: Sequence[int]) -> None:
    """Remembers that somebody has these versions now."""
    versions.note_fetch(session, version_ids, at=db.now(session))


def _is_first_fetch(reader: Principal | None, held: Holder) -> bool:
    """Neither the author counts, who may look at what they have pushed, nor a worker, which keeps nothing."""
    is_another = reader is None or (reader.account_id != held.created_by_id and Scope.LEASE not in reader.scopes)
    return held.fetched_at is None and is_another


def find_adapter(
    session: Session, principal: Principal | None, namespace: str, name: str, *, to: Action = Action.READ
) -> Adapter:
    """The adapter, which `principal` may see and may do `to` to. Raises NotFound and Forbidden."""
    adapter = adapters.find(session, viewer_of(principal), namespace, name)
    if adapter is None:
        raise _elsewhere(session, principal, namespace, name)
    authorize(principal, Action.READ, Resource(namespace, name, adapter.is_private))
    if adapter.account.mirrored_from is not None and to not in (Action.READ, Action.QUARANTINE):
        raise read_only(namespace, adapter.account.mirrored_from)
    authorize(principal, to, Resource(namespace, name, adapter.is_private))
    return adapter


def read_only(namespace: str, origin: str) -> Forbidden:
    return Forbidden(
        f"{namespace} is a copy of the namespace at {origin}, and nothing is changed in it here: push to that hub, or "
        "to a namespace of this one.",
        code="NAMESPACE_MIRRORED",
        namespace=namespace,
        mirrored_from=origin,
    )


def _elsewhere(session: Session, principal: Principal | None, namespace: str, name: str) -> NotFound:
    """Where the adapter is that has had this name, or has it in small letters; or that there is none."""
    viewer, small = viewer_of(principal), (namespace.lower(), name.lower())
    if small != (namespace, name) and adapters.exists(session, viewer, *small):
        return moved(f"{namespace}/{name}", "/".join(small))
    found = moves.adapter_of(session, viewer, *small)
    return unknown_adapter(namespace, name) if found is None else moved(f"{namespace}/{name}", adapter_id(found))


def moved(old: str, new: str) -> Moved:
    return Moved(f"{old[:130]} is {new} now: use that name.", code="ADAPTER_MOVED", old=old[:130], new=new)


def require_given(session: Session, reader: Principal | None, adapter: Adapter) -> None:
    """Returns when the files of the adapter, which `reader` sees, are given to them. Raises Forbidden."""
    named = Resource(adapter.account.name, adapter.name, adapter.is_private)
    _require_files(session, reader, named, adapter_id=adapter.id, gate=adapter.gate)


def _require_given_to(session: Session, reader: Principal | None, version: Given) -> None:
    named = Resource(version.namespace, version.name, version.is_private)
    _require_files(session, reader, named, adapter_id=version.adapter_id, gate=version.gate)


def _require_files(
    session: Session, reader: Principal | None, named: Resource, *, adapter_id: int, gate: str | None
) -> None:
    is_given = gate is None or adapters.gives_files(session, viewer_of(reader), adapter_id)
    authorize(reader, Action.READ_FILES, replace(named, is_gated=not is_given))


def set_visibility(
    session: Session, principal: Principal | None, namespace: str, name: str, *, is_private: bool
) -> AdapterView:
    """Makes the adapter private, or public; as it was is no change. Raises NotFound and Forbidden."""
    adapter = find_adapter(session, principal, namespace, name, to=Action.MANAGE_ADAPTER)
    if adapter.is_private != is_private:
        adapter.is_private = is_private
        session.flush()
        listings.set_private(session, adapter.id, is_private=is_private)
        facts = {"visibility": "private" if is_private else "public"}
        record(session, principal, Change.VISIBILITY_CHANGED, f"{namespace}/{name}", facts)
    return adapter_view(adapter)


def hold_adapter(session: Session, principal: Principal | None, namespace: str, name: str, *, to: Action) -> Adapter:
    """`find_adapter`, and the adapter is locked until the transaction ends: what changes its versions, and what
    their names mean, comes one after another."""
    adapter = find_adapter(session, principal, namespace, name, to=to)
    adapters.hold(session, adapter.account_id, adapter.name)
    session.expire_all()
    return find_adapter(session, principal, namespace, name, to=to)


def newest_version(session: Session, reader: Principal | None, namespace: str, name: str) -> VersionDetail:
    """The latest version, or the newest that can be had while none is the latest. Raises NotFound."""
    adapter = find_adapter(session, reader, namespace, name)
    head = head_of(session, adapter)
    if head is not None:
        return version_detail(session, reader, head)
    return resolve_version(session, reader, AdapterRef(namespace, name))


def head_of(session: Session, adapter: Adapter) -> Version | None:
    """The latest version, or the newest that can be had while none is the latest; None when none can be had."""
    if adapter.latest_number is None:
        return versions.newest_served(session, adapter.id)
    return versions.by_number(session, adapter.id, adapter.latest_number)


def find_version(session: Session, reader: Principal | None, ref: AdapterRef) -> Version:
    """The version, which can be had. Raises NotFound, Gone for a deleted one, Withheld for one in quarantine, and
    Conflict when it is not the one that the reference's digest pins."""
    version = select_version(session, find_adapter(session, reader, ref.namespace, ref.name), ref)
    require_served(version)
    return version


def require_served(version: Version) -> None:
    """Raises Gone for a deleted version and Withheld for one in quarantine."""
    if version.delete_reason is not None:
        raise Gone(
            f"{ref_of(version)} was deleted ({version.delete_reason}): neither its number nor its content is given "
            "again. Use another version.",
            code="VERSION_DELETED",
            ref=ref_of(version),
            reason=version.delete_reason,
        )
    if version.quarantine_reason is not None:
        raise Withheld(
            f"{ref_of(version)} is in quarantine ({version.quarantine_reason}) and is not given out: use another "
            "version, or ask an admin of this hub.",
            code="VERSION_QUARANTINED",
            ref=ref_of(version),
            reason=version.quarantine_reason,
        )


def select_version(session: Session, adapter: Adapter, ref: AdapterRef) -> Version:
    """The version that `ref` selects, whatever became of it. Raises NotFound, and Conflict for another digest."""
    version = _select(session, adapter, ref)
    if version is None:
        raise _no_such_version(adapter, ref)
    if ref.digest is not None and version.digest != ref.digest:
        raise Conflict(
            f"{ref_of(version)} is {version.digest} and not {ref.digest}, which was asked for: one of the two is "
            "mistaken, so nothing is given. Ask whoever wrote the reference.",
            code="DIGEST_MISMATCH",
            expected=ref.digest,
            got=version.digest,
        )
    return version


def labels_of(session: Session, version: Version) -> list[str]:
    """The labels that the manifest of a version names."""
    task = _manifest_in(session, versions.files_of(session, version.id))["task"]
    return list(task["labels"]) if task else []


def _manifest_in(session: Session, files: Sequence[KeptFile]) -> dict[str, Any]:
    manifest = next(file for file in files if file.path == MANIFEST_FILE)
    parsed: dict[str, Any] = json.loads(TableBlobs(session).get(manifest.sha256))
    return parsed


def version_detail(session: Session, reader: Principal | None, version: Version) -> VersionDetail:
    """Everything about a version that `reader` may see."""
    files = versions.files_of(session, version.id)
    pair = version.stored_projection
    return VersionDetail(
        **vars(version_summary(version)),
        id=adapter_id(version.adapter),
        manifest=_manifest_in(session, files),
        files=tuple(FileView(file.path, file.sha256, file.size_bytes) for file in files),
        card_html=versions.card_of(session, version.id),
        stored_projection=projections.get_projection(session, reader, pair) if pair else None,
        parent=parent_ref(session, reader, version, adapter_id(version.adapter)),
        source=source_view(version),
        aliases=tuple(aliases.names_of(session, version.id)),
        evaluations=evaluations_of(session, version.id),
        reported=reported_of(version),
        warnings=tuple(version.warnings),
        provenance=version.provenance,
    )


def _select(session: Session, adapter: Adapter, ref: AdapterRef) -> Version | None:
    selector = ref.selector or ""
    match ref.selector_kind:
        case SelectorKind.LATEST:
            number = adapter.latest_number
            return None if number is None else versions.by_number(session, adapter.id, number)
        case SelectorKind.VERSION:
            return versions.by_number(session, adapter.id, int(selector[1:]))
        case SelectorKind.COMMIT:
            return versions.by_commit(session, adapter.id, selector)
        case SelectorKind.DIGEST:
            return versions.by_digest(session, adapter.id, selector.replace("-", ":") or ref.digest or "")
        case SelectorKind.ALIAS:
            pointing = aliases.find(session, adapter.id, selector)
            return pointing and versions.by_number(session, adapter.id, pointing.version.number)


def _no_such_version(adapter: Adapter, ref: AdapterRef) -> NotFound:
    if ref.selector_kind is SelectorKind.LATEST and adapter.last_number:
        sentence = (
            f"{ref.adapter_id} has no latest version: each was yanked, is a pre-release or is not given out. "
            "Name the one you want, @v1 or an alias: its page lists them."
        )
    else:
        there = f"its newest version is v{adapter.last_number}" if adapter.last_number else "it has no version yet"
        is_alias = ref.selector_kind is SelectorKind.ALIAS
        sentence = (
            f"{ref.adapter_id} has no {'alias' if is_alias else 'version'} {ref.selector or ref.digest} ({there}): "
            f"`vera-hub versions {ref.adapter_id}` and its page list those there are."
        )
        if is_alias and adapter.last_number:
            sentence += (
                f" `vera-hub alias set {ref.adapter_id}@v1 {ref.selector}` makes it, of v1 or whichever it is to mean."
            )
    return NotFound(sentence, code="VERSION_UNKNOWN", ref=str(ref))


def parent_ref(session: Session, reader: Principal | None, version: Version, adapter_id: str) -> str | None:
    """What it was made from, unless that is hidden from `reader`. `adapter_id` is its own adapter."""
    if version.parent_id is None:
        return None
    home, number = versions.place_of(session, version.parent_id)
    if home == version.adapter_id:  # as nearly always: who sees the version sees this one
        return f"{adapter_id}@v{number}"
    parent = versions.by_id(session, version.parent_id)
    assert parent is not None
    return ref_of(parent) if is_visible_to(session, reader, parent.adapter) else None


def is_visible_to(session: Session, reader: Principal | None, adapter: Adapter) -> bool:
    """Whether `reader` may see an adapter that was found by other means than its name."""
    return adapters.find(session, viewer_of(reader), adapter.account.name, adapter.name) is not None
