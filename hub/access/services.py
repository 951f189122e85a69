"""The hub's parts, as routes ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from hub.access.answers import Answers
from hub.access.intake import Intake
from hub.access.known import KnownTokens
from hub.access.limits import Buckets, Failures
from hub.access.metering import Metering
from hub.access.mirror import Mirror
from hub.access.relay import Relay
from hub.auth.identities import Issuers
from hub.db.session import Database
from hub.domain.downloads import DownloadCounter
from hub.domain.git_names import GitNames
from hub.sending.posting import Poster
from hub.settings import Settings
from hub.storage.blobs import BlobStore


@dataclass(frozen=True)
class Services:
    """The parts that `hub.app` has put together. `objects` is None when all blobs are in the database."""

    settings: Settings
    database: Database
    objects: BlobStore | None
    intake: Intake
    issuers: Issuers
    downloads: DownloadCounter
    poster: Poster
    # None where no other hub is mirrored.
    mirror: Mirror | None = None
    # None where no base models are passed on.
    relay: Relay | None = None
    # The secret that opens /metrics, and nothing else; None where none does.
    metrics_token: str | None = None
    # Sign-ins that went wrong, by where they came from.
    wrong_sign_ins: Failures = field(default_factory=Failures)
    # Codes of devices that were none, by who tried them.
    wrong_device_codes: Failures = field(default_factory=Failures)
    buckets: Buckets = field(default_factory=Buckets)
    answers: Answers = field(default_factory=Answers)
    tokens: KnownTokens = field(default_factory=KnownTokens)
    metering: Metering = field(default_factory=Metering)
    git_names: GitNames = field(default_factory=GitNames)


async def services(request: Request) -> Services:
    """The hub's parts. Like every dependency that waits for nothing it is async: FastAPI hands others to a thread."""
    found: Services = request.app.state.services
    return found


def read_session(parts: Annotated[Services, Depends(services)]) -> Iterator[Session]:
    """A session that reads."""
    with parts.database.reading() as session:
        yield session


HubParts = Annotated[Services, Depends(services)]
Reading = Annotated[Session, Depends(read_session)]
