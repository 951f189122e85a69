"""What led to a commit: the versions and drafts before it, and which of them gave each file its content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from hub.auth.policy import Principal
from hub.db.models.versions import Draft, Version
from hub.db.queries import drafts, versions
from hub.domain import openings
from hub.domain.catalog import find_adapter
from hub.domain.shaping import version_summary
from hub.domain.snapshots import Snapshot, draft_view, version_view
from hub.domain.views.versions import CommitView

Step = Draft | Version


@dataclass(frozen=True)
class _Commits:
    """All commits of an adapter: versions that were not deleted, and drafts, the newest first."""

    versions: tuple[Version, ...]
    drafts: tuple[Draft, ...]

    def until(self, commit: str) -> Iterator[Step]:
        """The commit and those before it, newest first: drafts one by one, then all that was on `main`."""
        by_commit = {draft.commit: draft for draft in self.drafts}
        at: str | None = commit
        while at in by_commit:
            yield by_commit[at]
            at = by_commit[at].parent
        last = next((version.number for version in self.versions if version.commit == at), 0)
        yield from self._main_until(last)

    def _main_until(self, number: int) -> Iterator[Step]:
        older = [version for version in self.versions if version.number <= number]
        for position, version in enumerate(older):
            yield version
            beneath = older[position + 1].id if position + 1 < len(older) else None
            yield from (draft for draft in self.drafts if draft.is_main and draft.beneath_id == beneath)


def history(session: Session, reader: Principal | None, snapshot: Snapshot) -> tuple[CommitView, ...]:
    """The commit and all before it that can be had, newest first."""
    found = _commits(session, reader, snapshot).until(snapshot.commit)
    return tuple(_view(step) for step in found)


def last_changes(session: Session, reader: Principal | None, snapshot: Snapshot) -> Mapping[str, CommitView]:
    """For each file, the commit that gave it the content it has in the snapshot."""
    commits = _commits(session, reader, snapshot)
    trees = _trees(session, commits)
    found: dict[str, CommitView] = {}
    open_paths = set(snapshot.files)
    for step in commits.until(snapshot.commit):
        tree = trees[step.commit]
        open_paths = {path for path in open_paths if tree.get(path) == snapshot.files[path].sha256}
        found |= dict.fromkeys(open_paths, _view(step))
    return found


def _commits(session: Session, reader: Principal | None, snapshot: Snapshot) -> _Commits:
    namespace, _, name = snapshot.id.partition("/")
    adapter = openings.find(session, reader, namespace, name) or find_adapter(session, reader, namespace, name)
    there = (version for version in versions.all_of(session, adapter.id) if version.delete_reason is None)
    return _Commits(tuple(there), tuple(drafts.all_of(session, adapter.id)))


def _trees(session: Session, commits: _Commits) -> dict[str, dict[str, str]]:
    """The hashes of the files at each commit, by path."""
    of_versions = {
        version.id: {file.path: file.sha256 for file in versions.files_of(session, version.id)}
        for version in commits.versions
    }
    loose = drafts.files_of_each(session, [draft.id for draft in commits.drafts])
    found = {version.commit: of_versions[version.id] for version in commits.versions}
    for draft in commits.drafts:
        beneath = of_versions.get(draft.beneath_id, {}) if draft.beneath_id else {}
        found[draft.commit] = {**beneath, **loose[draft.id]}
    return found


def _view(step: Step) -> CommitView:
    return draft_view(step) if isinstance(step, Draft) else version_view(version_summary(step))
