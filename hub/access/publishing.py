"""From a checked push to a version, whichever door it came through."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from sqlalchemy.orm import Session

from hub.access.limits import NEW_ADAPTERS, count
from hub.access.services import Services
from hub.auth.policy import Action, Principal, Resource, authorize
from hub.domain import accounts, bases, blobs, projections, publishing, uploads
from hub.domain.claiming import Quota
from hub.domain.publishing import Published
from hub.domain.uploads import Upload
from vera.projection import PairSource, bytes_of_pair


def publish(
    request: Request,
    parts: Services,
    principal: Principal,
    upload: Upload,
    *,
    namespace: str,
    name: str,
    built_on: int | None = None,
    then: Callable[[Session, Published], None] | None = None,
) -> Published:
    """Keeps what is large, the stored pair among it where the push brings one, and then publishes in one short
    transaction, of which `then` is the end. Raises what `publish_version` does, and Unauthorized and Forbidden for who
    was let in before the files came, and would not be now."""
    wanted = Resource(namespace, name)
    if parts.objects is not None or upload.archive.projection is not None:
        with parts.database.reading() as session:
            principal = _as_it_stands(session, principal, wanted)
            bases.require_base(session, upload.manifest)
            if upload.archive.projection is None:
                projections.require_projection(session, principal, upload.manifest)
    if parts.objects is not None:
        upload = uploads.put_large_files(parts.objects, upload)
    if upload.archive.projection is not None:
        _keep_pair(parts, principal, wanted, upload.manifest.projection_digest, upload.archive.projection)

    def write(session: Session) -> Published:
        now = _as_it_stands(session, principal, wanted)
        published = publishing.publish_version(
            session, now, upload, namespace=namespace, name=name, quota=quota_of(parts), built_on=built_on
        )
        if published.is_adapter_new:
            count_new_adapter(request, parts, now)
        if then is not None:
            then(session, published)
        return published

    return parts.database.write(write)


def count_new_adapter(request: Request, parts: Services, principal: Principal) -> None:
    """Raises TooMany, and so takes back the adapter that was just made, for who makes too many."""
    if parts.settings.has_rate_limits:
        count(request, parts.buckets, NEW_ADAPTERS, str(principal.account_id))


def quota_of(parts: Services) -> Quota:
    return Quota(parts.settings.max_account_adapters, parts.settings.max_account_bytes)


def _as_it_stands(session: Session, principal: Principal, wanted: Resource) -> Principal:
    """The principal with the rights of this moment, this push among them. Raises Unauthorized and Forbidden."""
    now = accounts.as_it_stands(session, principal)
    authorize(now, Action.PUSH, wanted)
    return now


def _keep_pair(parts: Services, principal: Principal, wanted: Resource, digest: str, pair: PairSource) -> None:
    data = b"".join(bytes_of_pair(pair))
    found = [data[at : at + projections.PIECE_BYTES] for at in range(0, len(data), projections.PIECE_BYTES)]
    size_bytes = projections.check_pieces(found)
    outside = blobs.put_large(parts.objects, found)
    with parts.database.writing() as session:
        principal = _as_it_stands(session, principal, wanted)
        projections.keep(
            session, principal, digest, found, size_bytes=size_bytes, outside=outside, quota=quota_of(parts)
        )
