"""What clients of this wire read: from our views to their objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from hub.domain.cards import facts_of
from hub.domain.naming import NamedCommit
from hub.domain.snapshots import MAIN, Snapshot
from hub.domain.views.accounts import PrincipalView
from hub.domain.views.adapters import AdapterView, FoundView
from hub.domain.views.evaluations import EvaluationView
from hub.domain.views.record import DownloadsView
from hub.domain.views.versions import AliasView, CommitView, FileView, VersionDetail, VersionSummary
from vera.manifest import DTYPES
from vera.tensorfile import ITEM_BYTES

Json = dict[str, Any]
# Tasks that have the same name there.
_PIPELINES = frozenset({"text-classification", "image-classification", "text-generation", "feature-extraction"})


def moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def model(adapter: AdapterView, version: VersionSummary) -> Json:
    """An adapter in a list. There are no likes here, so nothing is said of them."""
    task = adapter.task.kind if adapter.task else None
    pipeline = task if task in _PIPELINES else None
    base = adapter.base.name
    tags = ["vera", "peft", "safetensors", f"base_model:{base}", f"base_model:adapter:{base}"]
    return {
        "_id": adapter.id,
        "id": adapter.id,
        "modelId": adapter.id,
        "author": adapter.namespace,
        "sha": version.commit,
        "lastModified": moment(version.created_at),
        "createdAt": moment(adapter.created_at),
        "private": adapter.visibility == "private",
        "gated": adapter.gated or False,
        "disabled": False,
        "library_name": "peft",
        "pipeline_tag": pipeline,
        "tags": tags + ([task] if task else []),
    }


def listed(found: FoundView, version: VersionSummary) -> Json:
    """An adapter that a search found, with what the listing knows."""
    shown = model(found, version)
    shown["tags"] += [*found.tags, *([f"license:{found.license}"] if found.license else [])]
    return {**shown, "downloadsAllTime": found.downloads}


def opening(found: Snapshot, names: Mapping[str, str] | None) -> Json:
    """An adapter that has no version yet. `names` are git's of its files, where the client asked for them."""
    return {
        "_id": found.id,
        "id": found.id,
        "modelId": found.id,
        "author": found.id.partition("/")[0],
        "sha": found.commit,
        "lastModified": moment(found.draft.created_at if found.draft else found.created_at),
        "createdAt": moment(found.created_at),
        "private": found.is_private,
        "gated": found.gate or False,
        "disabled": False,
        "tags": [],
        "siblings": [_sibling(file, names) for file in found.files.values()],
    }


def model_at(
    snapshot: Snapshot,
    detail: VersionDetail,
    *,
    card_data: Json,
    fetched: DownloadsView,
    names: Mapping[str, str] | None,
    hub: str,
) -> Json:
    """An adapter at one version. `names` are git's of its files, where the client asked for them; `hub` is where
    whoever asks has reached this hub."""
    assert snapshot.adapter is not None, "who has a version is an adapter"
    files, base = snapshot.files.values(), detail.manifest["base"]
    shown, said = model(snapshot.adapter, detail), facts_of(card_data)
    license_name = detail.manifest.get("license") or said.license
    shown["tags"] += [*said.tags, *([f"license:{license_name.lower()}"] if license_name else [])]
    return {
        **shown,
        "sha": snapshot.commit,
        "downloads": sum(day.count for day in fetched.days),
        "downloadsAllTime": fetched.total,
        "siblings": [_sibling(file, names) for file in files],
        "cardData": card_data,
        "config": {"peft": {"base_model_name_or_path": base["name"], "task_type": None}},
        "safetensors": _tensors(detail),
        "baseModels": {"relation": "adapter", "models": [{"_id": base["name"], "id": base["name"]}]},
        "evalResults": [_result(each, hub) for each in detail.evaluations if each.score is not None],
        "usedStorage": detail.size_bytes,
        "vera": {
            "ref": detail.ref,
            "digest": detail.digest,
            "base": dict(base),
            "warnings": list(detail.warnings),
        },
    }


def entry(file: FileView, git_name: str, changed_in: CommitView | None = None) -> Json:
    """A file of a tree. `changed_in` is the commit that gave it this content, where the client asked for that."""
    shown: Json = {"type": "file", "path": file.path, "oid": git_name, "size": file.size_bytes}
    if changed_in is not None:
        shown["lastCommit"] = {
            "id": changed_in.commit,
            "title": _title(changed_in),
            "date": moment(changed_in.created_at),
        }
    return shown


def folder(path: str, git_name: str) -> Json:
    return {"type": "directory", "path": path, "oid": git_name, "size": 0}


def commit(found: CommitView) -> Json:
    title, message = _title(found), found.message.partition("\n")[2].strip()
    return {
        "id": found.commit,
        "title": title,
        "message": message,
        "date": moment(found.created_at),
        "authors": [{"user": found.created_by}],
        "formatted": {"title": title, "message": message},
    }


def refs(
    head: Snapshot, versions: Sequence[VersionSummary], aliases: Sequence[AliasView], names: Sequence[NamedCommit]
) -> Json:
    """`main`, a tag for each version and each alias, and the branches and tags of drafts."""
    commits = {each.version: each.commit for each in versions}
    tags = {f"v{each.version}": each.commit for each in versions}
    tags |= {each.name: commits[each.version] for each in aliases if each.version in commits}
    branches = {MAIN: head.commit, **{each.name: each.commit for each in names if each.kind == "branch"}}
    tags = {**{each.name: each.commit for each in names if each.kind == "tag"}, **tags}
    return {
        "branches": [_ref(name, f"refs/heads/{name}", commit) for name, commit in branches.items()],
        "tags": [_ref(name, f"refs/tags/{name}", commit) for name, commit in tags.items()],
        "converts": [],
    }


def tag(name: str, commit: str) -> Json:
    return _ref(name, f"refs/tags/{name}", commit)


def account(principal: PrincipalView, token_id: int) -> Json:
    """Who a token speaks for; what it may do as near as their two words for it say."""
    role = "write" if "repo:push" in principal.scopes else "read"
    return {
        "type": "org" if principal.kind == "organisation" else "user",
        "id": principal.name,
        "name": principal.name,
        "fullname": principal.name,
        "isPro": False,
        "orgs": [
            {"type": "org", "id": each.name, "name": each.name, "fullname": each.name, "roleInOrg": each.role}
            for each in principal.organisations
        ],
        "auth": {"type": "access_token", "accessToken": {"displayName": f"token-{token_id}", "role": role}},
    }


def _sibling(file: FileView, names: Mapping[str, str] | None) -> Json:
    if names is None:
        return {"rfilename": file.path}
    return {"rfilename": file.path, "size": file.size_bytes, "blobId": names[file.path]}


def _tensors(detail: VersionDetail) -> Json:
    dtype = DTYPES[detail.manifest["weights"]["dtype"]]
    count = (detail.vector_bytes + detail.head_bytes) // ITEM_BYTES[dtype]
    return {"parameters": {dtype: count}, "total": count}


def _result(evaluation: EvaluationView, hub: str) -> Json:
    return {
        "dataset": {"id": evaluation.suite, "task_id": evaluation.metric, "revision": evaluation.spec_digest},
        "value": evaluation.score,
        "date": moment(evaluation.finished_at or evaluation.created_at)[:10],
        "source": {"name": "evaluated by this hub", "url": f"{hub}/leaderboards/{evaluation.suite}"},
    }


def _title(found: CommitView) -> str:
    return found.message.partition("\n")[0]


def _ref(name: str, ref: str, commit: str) -> Json:
    return {"name": name, "ref": ref, "targetCommit": commit}
