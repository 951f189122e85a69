"""A model in full, or those of its properties that a client asks for by `expand`."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy.orm import Session

from hub.access.services import Services
from hub.api.responses import hub_url
from hub.auth.policy import Principal
from hub.domain import blobs, catalog, downloads, snapshots
from hub.domain.front_matter import front_matter_or_nothing
from hub.domain.snapshots import Snapshot
from hub.errors import Malformed
from hub.hf import shapes
from vera.manifest import CARD_FILE
from vera.ref import AdapterRef

Texts = Annotated[list[str], Query(max_length=40)]
Properties = frozenset[str]

# What `downloads` counts there.
_RECENT_DAYS = 30
# What every list tells anyhow.
BRIEF = frozenset(
    "author createdAt disabled downloadsAllTime gated lastModified library_name pipeline_tag private sha tags".split()
)
# What takes a look into the version.
LONG = frozenset("baseModels cardData config downloads evalResults safetensors siblings usedStorage vera".split())
# What their hub knows of a model, and nothing here has: it is left out, as theirs leaves out what a model has not.
_NEVER = frozenset(
    "childrenModelCount gguf inference inferenceProviderMapping likes mask_token model-index resourceGroup "
    "securityRepoStatus spaces transformersInfo trendingScore widgetData xetEnabled".split()
)


async def expanded(
    expand: Texts = [],  # noqa: B006  # FastAPI copies it
    bracketed: Annotated[list[str], Query(max_length=40, alias="expand[]")] = [],  # noqa: B006
) -> Properties:
    """The properties asked for; none is all. Raises Malformed for one that no model has."""
    asked = frozenset(part for text in (*expand, *bracketed) for part in text.split(","))
    unknown = sorted(asked - BRIEF - LONG - _NEVER)
    if unknown:
        raise Malformed(
            f"A model has no property {unknown[0][:40]!r}: expand names some of {', '.join(sorted(BRIEF | LONG))}.",
            code="PARAMETER_INVALID",
        )
    return asked


Expanded = Annotated[Properties, Depends(expanded)]


def whole(
    request: Request, session: Session, parts: Services, found: Snapshot, *, with_git_names: bool = False
) -> shapes.Json:
    """Everything there is to say of a model at a version. `with_git_names` says what git calls its files, too."""
    names = None
    if with_git_names:
        names = snapshots.git_names(session, parts.git_names, parts.objects, list(found.files.values()))
    if found.version is None:
        return shapes.opening(found, names)
    reader: Principal | None = request.state.principal
    namespace, _, name = found.id.partition("/")
    ref = AdapterRef(namespace, name, found.version.commit)
    detail = catalog.resolve_version(session, reader, ref)
    card = blobs.bytes_of(blobs.locate(session, found.file(CARD_FILE).sha256), parts.objects).decode()
    fetched = downloads.of_adapter(session, reader, ref.namespace, ref.name, days=_RECENT_DAYS)
    card_data, here = front_matter_or_nothing(card), hub_url(request)
    return shapes.model_at(found, detail, card_data=card_data, fetched=fetched, names=names, hub=here)


def only(shown: shapes.Json, asked: Properties) -> shapes.Json:
    """The properties that the client asked for, or all of them."""
    if not asked:
        return shown
    return {name: value for name, value in shown.items() if name in ("_id", "id", *asked)}
