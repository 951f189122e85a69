"""`admin import`: what `admin export` has written, into a hub that may be in use. Every file is checked as at a push.

Versions keep their numbers, commits, dates and authors; users who are not here yet are made, without a way to sign
in. Scores are not brought along: they are this hub's own, and the evaluations are asked for anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from hub.auth.policy import Grant, Principal, Role, Scope
from hub.care.exporting import CONTENTS, FORMAT
from hub.db import session as db
from hub.db.models.accounts import Account
from hub.db.models.adapters import AccessRequest, Adapter
from hub.db.models.versions import Alias, Version
from hub.db.queries import accounts, adapters, aliases, versions
from hub.db.queries.inserting import insert_new
from hub.db.session import Database
from hub.domain import bases, projections, publishing, uploads, withdrawing
from hub.domain.audit import Change, record
from hub.domain.uploads import Said, Upload
from hub.errors import Conflict, Invalid
from hub.storage.objects import ObjectBlobs
from vera.ref import AdapterRef, check_adapter_id, fold_name

# In the record, in the place of a user: the operator's own doing.
ACTOR = "admin import"
_OPERATOR = Principal(0, 0, ACTOR, "user", frozenset())


def bring_in(database: Database, objects: ObjectBlobs | None, folder: Path) -> int:
    """Publishes what is in `folder` and not here yet, version by version; says how many that were. Twice is once.

    Raises Invalid for a folder that is no export, Conflict where something else has a name or a number already,
    and what a push raises for files that are no adapter.
    """
    contents = _read(folder / CONTENTS)
    if contents.get("format") != FORMAT:
        raise Invalid(
            f"{folder} is an export of format {contents.get('format')}, and this release reads {FORMAT}: export again "
            "with this release, which also says which adapters are gated.",
            code="EXPORT_INVALID",
        )
    with database.writing() as session:
        for namespace in contents["namespaces"]:
            _make_owner(session, namespace)
    for path in sorted((folder / "bases").glob("*.json")):
        base = _read(path)
        with database.writing() as session:
            bases.register_base(session, _OPERATOR, base["name"], base["revision"], base["tensors"])
    found = [_Described.read(path) for path in sorted(folder.glob("adapters/*/*/adapter.json"))]
    brought = sum(_bring_files(database, objects, folder, adapter, version) for adapter, version in _as_made(found))
    for adapter in found:
        with database.writing() as session:
            _bring_names(session, adapter)
    return brought


def _make_owner(session: Session, described: dict[str, Any]) -> None:
    """The user or the organisation, made when it is new. Who is in one that is here already stays as it is."""
    at, name, origin = db.now(session), described["name"], described.get("mirrored_from")
    if origin is not None:
        is_new = accounts.mirror(session, name, origin, at=at)
    else:
        is_new = accounts.create(session, name, described["kind"], at=at) is not None
    owner = accounts.find(session, name)
    if owner is None or (owner.kind, owner.mirrored_from) != (described["kind"], origin):
        what = f"a copy of the namespace at {origin}" if origin else described["kind"]
        raise Conflict(f"{name} is or was something else here than {what}: it cannot be brought in.", code="NAME_TAKEN")
    if not is_new or owner.kind != "organisation":
        return
    for member in described["members"]:
        user = accounts.ensure_account(session, member["user"], at=at)
        accounts.add_member(session, owner.id, user.id, member["role"], at=at)
    record(session, _OPERATOR, Change.ORGANISATION_CREATED, owner.name, {"members": described["members"]})


@dataclass(frozen=True)
class _Described:
    """An adapter of an export: its name, its folder, and what its `adapter.json` says."""

    namespace: str
    name: str
    folder: Path
    facts: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> _Described:
        """Raises Invalid, and RefError for an impossible name."""
        found = cls(path.parent.parent.name, path.parent.name, path.parent, _read(path))
        check_adapter_id(found.namespace, found.name)
        if found.facts.get("gate", "") not in (None, "auto", "manual"):
            raise Invalid(f"{path} does not say whether the adapter is gated: export it again.", code="EXPORT_INVALID")
        return found


def _as_made(found: Iterable[_Described]) -> Iterator[tuple[_Described, dict[str, Any]]]:
    """Every version of all adapters, those of one by their numbers, and none before what it was made from."""
    timed: list[tuple[datetime, _Described, dict[str, Any]]] = []
    for adapter in found:
        latest = datetime.min.replace(tzinfo=UTC)
        for version in adapter.facts["versions"]:
            latest = max(latest, datetime.fromisoformat(version["created_at"]))
            timed.append((latest, adapter, version))
    for _, adapter, version in sorted(timed, key=lambda each: each[0]):
        yield adapter, version


def _bring_files(
    database: Database, objects: ObjectBlobs | None, folder: Path, adapter: _Described, version: dict[str, Any]
) -> bool:
    """Publishes a version from its files. True when it was not here yet."""
    place = adapter.folder / f"v{int(version['number'])}"
    said = Said(version["message"], adapter.facts["visibility"] == "private", version["prerelease"])
    upload = uploads.check_upload({file.name: file.read_bytes() for file in sorted(place.iterdir())}, said)
    if upload.manifest.digest != version["digest"]:
        raise Invalid(
            f"{place} has the digest {upload.manifest.digest} and should have {version['digest']}: it was changed.",
            code="DIGEST_MISMATCH",
        )
    upload = uploads.put_large_files(objects, upload)
    with database.writing() as session:
        told = {**version, "gate": adapter.facts["gate"]}
        return _bring_version(session, folder, upload, namespace=adapter.namespace, name=adapter.name, described=told)


def _bring_names(session: Session, adapter: _Described) -> None:
    """Brings what the adapter has beside its versions."""
    namespace, name, facts = adapter.namespace, adapter.name, adapter.facts
    _count_on(session, namespace, name, facts.get("last_number", 0))
    _set_aliases(session, namespace, name, facts["aliases"])
    _let_in(session, namespace, name, facts["access"])


def _bring_version(
    session: Session, folder: Path, upload: Upload, *, namespace: str, name: str, described: dict[str, Any]
) -> bool:
    """True when the version was not here yet."""
    owner, author = (
        _account(session, namespace),
        accounts.ensure_account(session, described["created_by"], at=db.now(session)),
    )
    principal = _speaking_for(author, owner)
    _bring_pair(session, principal, folder, upload)
    adapter = _prepare_adapter(session, owner, name, upload, described)
    if versions.by_digest(session, adapter.id, upload.manifest.digest) is not None:
        return False
    if adapter.last_number >= described["number"]:
        raise Conflict(
            f"{namespace}/{name} has a v{described['number']} here already, which is another one: nothing of this "
            "version was brought in. Export into an empty hub, or rename one of the two.",
            code="VERSION_EXISTS",
        )
    if described["gate"] is not None and adapter.gate is None:
        raise Conflict(
            f"{namespace}/{name} is gated in the export and open here, where everybody would get its files: gate it "
            "first, or rename one of the two.",
            code="ADAPTER_OPEN",
        )
    adapter.last_number = described["number"] - 1
    session.flush()
    publishing.publish_version(session, principal, upload, namespace=namespace, name=name)
    version = versions.by_number(session, adapter.id, described["number"])
    assert version is not None
    _describe(session, version, described)
    withdrawing.refresh_latest(session, adapter)
    return True


def _prepare_adapter(session: Session, owner: Account, name: str, upload: Upload, described: dict[str, Any]) -> Adapter:
    """The adapter, made when it is new so that its first version gets the number that it had."""
    at = datetime.fromisoformat(described["created_at"])
    insert_new(
        session,
        Adapter,
        account_id=owner.id,
        name=name,
        folded_name=fold_name(name),
        base_id=bases.require_base(session, upload.manifest).id,
        is_private=bool(upload.said.is_private),
        gate=described["gate"],
        last_number=described["number"] - 1,
        created_at=at,
        updated_at=at,
    )
    adapter = adapters.hold(session, owner.id, name)
    if adapter is None:
        raise Conflict(f"{owner.name}/{name} looks like another adapter that is here.", code="NAME_TOO_SIMILAR")
    return adapter


def _bring_pair(session: Session, principal: Principal, folder: Path, upload: Upload) -> None:
    digest = upload.manifest.projection_digest
    path = folder / "projections" / digest.partition(":")[2]
    if not path.is_file():
        return
    with path.open("rb") as file:
        size_bytes = projections.check_pieces(projections.pieces(file))
        projections.keep(session, principal, digest, projections.pieces(file), size_bytes=size_bytes, outside={})


def _describe(session: Session, version: Version, described: dict[str, Any]) -> None:
    version.commit, version.created_at = described["commit"], datetime.fromisoformat(described["created_at"])
    version.source, version.provenance = described["source"], described["provenance"]
    version.yank_reason, version.deprecation = described["yanked"], described["deprecated"]
    version.replacement, version.quarantine_reason = described["replacement"], described["quarantined"]
    if "parent" in described:
        version.parent_id = _id_of(session, described["parent"])


def _id_of(session: Session, ref: str | None) -> int | None:
    """The version of this name, as far as it is here."""
    if ref is None:
        return None
    named = AdapterRef.parse(ref)
    owner = accounts.find(session, named.namespace)
    adapter = adapters.hold(session, owner.id, named.name) if owner else None
    version = versions.by_number(session, adapter.id, int((named.selector or "v0")[1:])) if adapter else None
    return version.id if version else None


def _count_on(session: Session, namespace: str, name: str, last_number: int) -> None:
    """Has the next version get the number that it had got at home: that of a deleted one is not given again."""
    adapter = adapters.hold(session, _account(session, namespace).id, name)
    if adapter is not None:
        adapter.last_number = max(adapter.last_number, last_number)


def _set_aliases(session: Session, namespace: str, name: str, described: list[dict[str, Any]]) -> None:
    owner = _account(session, namespace)
    adapter = adapters.hold(session, owner.id, name)
    if adapter is None:
        return  # it had no version
    for each in described:
        version = versions.by_number(session, adapter.id, each["version"])
        if version is None or aliases.find(session, adapter.id, each["name"]) is not None:
            continue
        move = aliases.note_move(
            session, adapter.id, each["name"], before=None, after=version.number, by_id=owner.id, at=db.now(session)
        )
        alias = Alias(
            adapter_id=adapter.id,
            name=each["name"],
            version_id=version.id,
            move_id=move.id,
            is_protected=each["protected"],
        )
        session.add(alias)
        session.flush()
        facts = {"alias": each["name"], "to": version.number}
        record(session, _OPERATOR, Change.ALIAS_SET, f"{namespace}/{name}", facts)


def _let_in(session: Session, namespace: str, name: str, described: list[dict[str, Any]]) -> None:
    """Who has asked for the files, and what became of it. Who has asked here too is answered here."""
    adapter = adapters.hold(session, _account(session, namespace).id, name)
    if adapter is None:
        return  # it had no version
    for each in described:
        at, by = db.now(session), each["decided_by"]
        insert_new(
            session,
            AccessRequest,
            adapter_id=adapter.id,
            account_id=accounts.ensure_account(session, each["user"], at=at).id,
            state=each["state"],
            message=each["message"],
            reason=each["reason"],
            created_at=datetime.fromisoformat(each["created_at"]),
            decided_at=datetime.fromisoformat(each["decided_at"]) if each["decided_at"] else None,
            decided_by_id=accounts.ensure_account(session, by, at=at).id if by else None,
        )


def _speaking_for(author: Account, owner: Account) -> Principal:
    return Principal(author.id, 0, ACTOR, "user", frozenset(Scope), grants=(Grant(owner.id, owner.name, Role.OWNER),))


def _account(session: Session, name: str) -> Account:
    account = accounts.find(session, name)
    if account is None:
        raise Invalid(f"The export does not say whose {name} is.", code="EXPORT_INVALID")
    return account


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read: is its folder an export?", code="EXPORT_INVALID") from error
    if not isinstance(found, dict):
        raise Invalid(f"{path} is not what an export holds.", code="EXPORT_INVALID")
    return found
