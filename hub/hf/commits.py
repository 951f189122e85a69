"""Commits over this wire: one that leaves a whole adapter is a push, and makes the next version; others are drafts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from hub.access.publishing import publish, quota_of
from hub.access.receiving import chunks
from hub.access.services import HubParts, Reading, Services
from hub.api.bodies import JsonBody
from hub.api.responses import answer, hub_url
from hub.auth.policy import Action, Principal
from hub.domain import accounts, adopting, blobs, committing, drafting, snapshots
from hub.domain.committing import Changes, Head, Keeping, Prepared, Tree
from hub.domain.drafting import Loose
from hub.domain.front_matter import front_matter
from hub.domain.ignoring import IGNORE_FILE, MAX_RULES, Ignored
from hub.domain.publishing import Published
from hub.domain.snapshots import MAIN, Snapshot, find_snapshot
from hub.domain.uploads import Said, upload_of
from hub.errors import Invalid, Malformed, TooLarge
from hub.hf.addresses import whole
from hub.hf.advising import warning
from hub.hf.commit_lines import CommitReader, refuse_pull_request
from hub.hf.permission import ReadOnly, Wired
from hub.hf.schemas import Card, FilesToCome, FileToCome

router = APIRouter(prefix="/api", include_in_schema=False)

Pusher = Annotated[Principal, Depends(Wired(Action.PUSH))]
_SAYS_NOTHING = (
    "The card says nothing to machines: a block of YAML at its top would, with license, tags and base_model."
)
# Base64 makes four bytes of three; the rest is names and JSON.
_MORE_THAN_FILES = 64 * 1024
_MOST_NAMED = 10


@router.post("/validate-yaml", dependencies=[ReadOnly])
def validate_card(request: Request, body: Annotated[Card, Depends(JsonBody(Card))]) -> Response:
    """Whether what a card says to machines can be read. Clients ask before every commit with a README.md."""
    try:
        said = front_matter(body.content.lstrip())
        _check_results(said)
    except Malformed as error:
        return answer(request, {"errors": [{"message": str(error)}], "warnings": []}, status=400)
    warnings = [] if said else [{"message": _SAYS_NOTHING}]
    return answer(request, {"errors": [], "warnings": warnings})


@router.post("/models/{namespace}/{name}/preupload/{revision}")
def announce(
    request: Request,
    *,
    principal: Annotated[Principal, Depends(Wired(Action.PUSH, is_counted=False))],
    namespace: str,
    name: str,
    revision: str,
    body: Annotated[FilesToCome, Depends(JsonBody(FilesToCome))],
    session: Reading,
    parts: HubParts,
) -> Response:
    """How each file is to be sent: inside the commit. What this hub does not keep is to be left out, unless there is
    nothing else."""
    refuse_pull_request(request.query_params)
    head = find_snapshot(session, principal, namespace, name, MAIN)
    if not snapshots.is_main(whole(revision)):
        head = find_snapshot(session, principal, namespace, name, f"refs/heads/{_branch(revision)}")
    left_out = {file.path: why for file in body.files if (why := _why_not_kept(file))}
    if body.files and len(left_out) == len(body.files):
        path, why = next(iter(left_out.items()))
        raise Invalid(f"{path} is {why}, and is not kept here.", code="FILE_NOT_KEPT", path=path)
    is_ignored = Ignored(_ignoring(session, parts, head, body))
    size_bytes = sum(file.size for file in body.files if file.path not in left_out)
    if size_bytes > (limit := parts.settings.max_push_bytes):
        raise TooLarge(f"These files have {size_bytes:,} bytes, and a push may have {limit:,}.", limit=limit)
    names = snapshots.git_names(session, parts.git_names, parts.objects, list(head.files.values()))
    modes = [
        {
            "path": file.path,
            "uploadMode": "regular",
            "shouldIgnore": file.path in left_out or is_ignored(file.path),
            "oid": names.get(file.path),
        }
        for file in body.files
    ]
    answered = answer(request, {"files": modes})
    if left_out:
        named = ", ".join(f"{path} ({why})" for path, why in list(left_out.items())[:10])
        sentence = f"Not kept: {named}{' …' * (len(left_out) > 10)}."
        answered.headers.update(warning(f"ignored {namespace}/{name}", sentence))
    return answered


@router.post("/models/{namespace}/{name}/commit/{revision}")
async def commit(
    request: Request, *, principal: Pusher, namespace: str, name: str, revision: str, parts: HubParts
) -> Response:
    """Publish the next version: the files of the one before, and what the commit changes. What makes none is a draft."""
    refuse_pull_request(request.query_params)
    async with parts.intake.place(principal.account_id):
        limit = parts.settings.max_push_bytes * 4 // 3 + _MORE_THAN_FILES
        changes = await CommitReader().read(chunks(request, limit, parts.intake))
        into = Committing(request, parts, principal, namespace, name, _branch(revision))
        made = await run_in_threadpool(into.commit, changes)
    url = f"{hub_url(request)}/{namespace}/{name}/commit/{made.commit}"
    said = " ".join(made.said)
    answered = answer(request, {"success": True, "commitOid": made.commit, "commitUrl": url, "hookOutput": said})
    if said:
        answered.headers.update(warning(f"{made.topic} {namespace}/{name}", said))
    return answered


@dataclass(frozen=True)
class Made:
    """The commit that a branch is after a commit, and what whoever commits is told."""

    commit: str
    said: tuple[str, ...] = ()
    topic: str = "adopted"


@dataclass(frozen=True)
class Committing:
    """A commit to a branch of an adapter by somebody."""

    request: Request
    parts: Services
    principal: Principal
    namespace: str
    name: str
    branch: str

    def commit(self, changes: Changes) -> Made:
        with self.parts.database.reading() as session:
            accounts.require_still(session, self.principal)  # who changes nothing is asked nowhere else
            head = committing.find_head(
                session,
                self.principal,
                self.parts.objects,
                namespace=self.namespace,
                name=self.name,
                branch=self.branch,
            )
            tree = committing.tree_after(head, changes)
            is_push = head.branch == MAIN and (tree.is_whole or head.number > 0)
            checkpoint = committing.checkpoint_in(head, tree.files) if is_push else None
            known = adopting.bases_for(session, checkpoint) if checkpoint else ()
        if not is_push:
            return self._draft(head, tree, changes)
        return self._push(head, tree, changes, committing.prepare(tree.files, checkpoint, known))

    def _push(self, head: Head, tree: Tree, changes: Changes, prepared: Prepared) -> Made:
        """The version that the tree makes, with what lies beside it; the head where it changes nothing."""
        if prepared.archive.manifest.digest == head.digest:
            if committing.is_unchanged_beside(head, tree):  # sent again, since its answer was lost perhaps
                return Made(head.commit, prepared.said)
            return self._draft(head, tree, changes)
        committing.require_parent(head, changes.parent)
        loose = committing.beside_version(tree)
        drafting.check_loose(loose)
        keeping = self._keeping(loose, changes)
        commits: list[str] = []

        def keep_beside(session: Session, published: Published) -> None:
            committing.require_not_earlier(head, published.version)
            commits.append(
                committing.keep_beside(session, self.principal, head, loose, keeping, version=published.version)
            )

        said = Said(message=changes.message or None, parent=f"v{head.number}" if head.number else None)
        upload = upload_of(prepared.archive, said, notes=prepared.notes)
        publish(
            self.request,
            self.parts,
            self.principal,
            upload,
            namespace=self.namespace,
            name=self.name,
            built_on=head.number,
            then=keep_beside,
        )
        return Made(commits[-1], prepared.said)

    def _draft(self, head: Head, tree: Tree, changes: Changes) -> Made:
        """The draft that the tree makes; the head where it changes nothing."""
        if committing.is_unchanged(head, tree):
            return Made(head.commit)
        committing.require_parent(head, changes.parent)
        committing.require_place_for_draft(head, tree)
        Said(message=changes.message)
        loose = tree.as_draft(head) if head.number == 0 else tree.beside
        drafting.check_loose(loose)
        keeping = self._keeping(loose, changes)
        with self.parts.database.writing() as session:
            accounts.require_still(session, self.principal)
            commit = committing.keep_draft(session, self.principal, head, loose, keeping)
        if head.number or head.branch != MAIN:
            return Made(commit)
        said = f"Kept as a draft, which is no version yet: it has no {tree.missing}."
        if within := tree.adapters_within:
            said += f" Each of {', '.join(within[:_MOST_NAMED])} is an adapter in a folder: commit what is in it to a repository of its own."
        return Made(commit, (said,), f"draft {commit[:7]} of")  # clients say one thing of a topic

    def _keeping(self, loose: Loose, changes: Changes) -> Keeping:
        outside = blobs.put_large(self.parts.objects, loose.new.values())
        message = changes.message or "Upload"
        return Keeping(self.namespace, self.name, message, quota_of(self.parts), outside)


def _check_results(card: Mapping[str, object]) -> None:
    """Raises Malformed for a `model-index` that clients cannot read back."""
    if not isinstance(card.get("model-index", []), list):
        raise Malformed("model-index of the card is no list of results.", code="CARD_INVALID")


def _branch(revision: str) -> str:
    """The branch that an address names."""
    named = whole(revision)
    return MAIN if snapshots.is_main(named) else named.removeprefix("refs/heads/")


def _ignoring(session: Session, parts: Services, head: Snapshot, body: FilesToCome) -> str:
    """The .gitignore that comes with the commit, or else the one that is there."""
    if body.gitIgnore is not None or IGNORE_FILE not in head.files:
        return body.gitIgnore or ""
    stored = blobs.locate(session, head.files[IGNORE_FILE].sha256)
    return blobs.bytes_of(stored, parts.objects).decode(errors="replace")[:MAX_RULES]


def _why_not_kept(file: FileToCome) -> str | None:
    drafting.check_path(file.path)
    return drafting.why_not_kept(file.path, file.size, file.beginning)
