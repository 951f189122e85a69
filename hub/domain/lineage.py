"""Where a version comes from and what was made from it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from sqlalchemy.orm import Session

from hub.auth.policy import Principal, viewer_of
from hub.db.models.versions import Version
from hub.db.queries import versions
from hub.domain.catalog import find_version, is_visible_to
from hub.domain.shaping import ref_of
from hub.domain.views.bases import BaseName
from hub.domain.views.versions import Lineage
from vera.ref import AdapterRef

# Each way: further back, or further on, is one request more.
MAX_SHOWN = 50


def lineage(session: Session, reader: Principal | None, ref: AdapterRef) -> Lineage:
    """The chain of parents, nearest first, as far as `reader` may see it, and what they may see of what was made
    from the version. Raises what `find_version` raises."""
    version = find_version(session, reader, ref)
    children = versions.made_from(session, viewer_of(reader), version.id, limit=MAX_SHOWN)
    return Lineage(
        ref=ref_of(version),
        base=BaseName(version.base.name, version.base.fingerprint),
        ancestors=tuple(ref_of(each) for each in islice(_ancestors(session, reader, version), MAX_SHOWN)),
        children=tuple(ref_of(each) for each in children),
    )


def _ancestors(session: Session, reader: Principal | None, version: Version) -> Iterator[Version]:
    """Parent, its parent, and so on until the first, or until one that is hidden."""
    while version.parent_id is not None:
        parent = versions.by_id(session, version.parent_id)
        assert parent is not None
        if not is_visible_to(session, reader, parent.adapter):
            return
        yield parent
        version = parent
