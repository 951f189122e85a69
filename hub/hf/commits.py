"""Commits over this wire: each is a push, and makes the next version."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from hub.access.publishing import publish
from hub.access.receiving import chunks
from hub.access.services import HubParts, Reading, Services
from hub.api.bodies import JsonBody
from hub.api.responses import answer, hub_url
from hub.auth.policy import Action, Principal
from hub.domain import adopting, committing, snapshots
from hub.domain.committing import Changes, Prepared, is_known_path, require_known_path
from hub.domain.front_matter import front_matter
from hub.domain.publishing import Said, upload_of
from hub.domain.snapshots import MAIN, find_snapshot
from hub.errors import Invalid, Malformed, TooLarge
from hub.hf.addresses import whole
from hub.hf.advising import warning
from hub.hf.commit_lines import CommitReader, refuse_pull_request
from hub.hf.permission import ReadOnly, Wired
from hub.hf.schemas import Card, FilesToCome

router = APIRouter(prefix="/api", include_in_schema=False)

Pusher = Annotated[Principal, Depends(Wired(Action.PUSH))]
# Base64 makes four bytes of three; the rest is names and JSON.
_MORE_THAN_FILES = 64 * 1024


@router.post("/validate-yaml", dependencies=[ReadOnly])
def validate_card(request: Request, body: Annotated[Card, Depends(JsonBody(Card))]) -> Response:
    """Whether what a card says to machines can be read. Clients ask before every commit with a README.md."""
    try:
        front_matter(body.content)
    except Malformed as error:
        return answer(request, {"errors": [{"message": str(error)}], "warnings": []}, status=400)
    return answer(request, {"errors": [], "warnings": []})


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
    """How each file is to be sent: inside the commit. What is no file of an adapter is to be left out, unless
    there is nothing else."""
    refuse_pull_request(request.query_params)
    head = find_snapshot(session, principal, namespace, name, MAIN)
    _require_main(whole(revision))
    wanted = [file for file in body.files if is_known_path(file.path)]
    if not wanted:
        for file in body.files:
            require_known_path(file.path)
    size_bytes, limit = sum(file.size for file in wanted), parts.settings.max_push_bytes
    if size_bytes > limit:
        raise TooLarge(f"These files have {size_bytes:,} bytes, and a push may have {limit:,}.", limit=limit)
    names = snapshots.git_names(session, parts.git_names, parts.objects, list(head.files.values()))
    modes = [
        {
            "path": file.path,
            "uploadMode": "regular",
            "shouldIgnore": not is_known_path(file.path),
            "oid": names.get(file.path),
        }
        for file in body.files
    ]
    answered = answer(request, {"files": modes})
    ignored = [file.path for file in body.files if not is_known_path(file.path)]
    if ignored:
        sentence = f"Not kept, being no files of an adapter: {', '.join(ignored[:10])}{' …' * (len(ignored) > 10)}."
        answered.headers.update(warning(f"ignored {namespace}/{name}", sentence))
    return answered


@router.post("/models/{namespace}/{name}/commit/{revision}")
async def commit(
    request: Request, *, principal: Pusher, namespace: str, name: str, revision: str, parts: HubParts
) -> Response:
    """Publish the next version: the files of the one before, and what the commit changes."""
    refuse_pull_request(request.query_params)
    _require_main(whole(revision))
    async with parts.intake.place(principal.account_id):
        limit = parts.settings.max_push_bytes * 4 // 3 + _MORE_THAN_FILES
        changes = await CommitReader().read(chunks(request, limit, parts.intake))
        made = await run_in_threadpool(_commit, request, parts, principal, changes, namespace=namespace, name=name)
    commit_id, prepared = made
    url = f"{hub_url(request)}/{namespace}/{name}/commit/{commit_id}"
    said = " ".join(prepared.said)
    answered = answer(request, {"success": True, "commitOid": commit_id, "commitUrl": url, "hookOutput": said})
    if said:
        answered.headers.update(warning(f"adopted {namespace}/{name}", said))
    return answered


def _commit(
    request: Request, parts: Services, principal: Principal, changes: Changes, *, namespace: str, name: str
) -> tuple[str, Prepared]:
    """The commit of the version that the changes make, which is the newest one where they change nothing."""
    with parts.database.reading() as session:
        head = committing.find_head(session, principal, parts.objects, namespace=namespace, name=name)
        files = committing.files_after(head, changes)
        checkpoint = committing.checkpoint_in(head, files)
        known = adopting.bases_for(session, checkpoint) if checkpoint else ()
    prepared = committing.prepare(files, checkpoint, known)
    if prepared.archive.manifest.digest == head.digest:  # sent again, since its answer was lost perhaps
        return head.commit, prepared
    committing.require_parent(head, changes.parent)
    said = Said(message=changes.message or None, parent=f"v{head.number}" if head.number else None)
    upload = upload_of(prepared.archive, said, notes=prepared.notes)
    published = publish(request, parts, principal, upload, namespace=namespace, name=name, built_on=head.number)
    committing.require_not_earlier(head, published.version)
    return published.version.commit, prepared


def _require_main(revision: str) -> None:
    if snapshots.is_main(revision):
        return
    raise Invalid(
        f"{revision[:100]} is no branch: there is one, {MAIN}, and each commit to it is a version that stays. Commit to "
        f"{MAIN}, and let an alias mean the version that it makes (`create_tag`, `vera-hub alias set`).",
        code="BRANCH_UNSUPPORTED",
    )
