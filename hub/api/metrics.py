"""`GET /metrics`: how the hub is, as Prometheus reads it (https://prometheus.io/docs/instrumenting/exposition_formats/)."""

from __future__ import annotations

import hmac
import shutil
from collections.abc import Iterator, Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily

import vera
from hub.access.permission import Allowed
from hub.access.services import HubParts, Services, services
from hub.api.responses import TO_NOBODY_ELSE
from hub.auth.policy import Action, Principal
from hub.db.migrating import REVISION
from hub.domain import measuring
from hub.errors import Unavailable

router = APIRouter()

# Every row of the files is read for it.
_OBJECTS_HOLD_S = 600


class Watching(Allowed):
    """`Allowed`, or whoever shows the secret that opens this one address: it is good while the database does not answer, too,
    and what a monitor loses of it opens nothing else."""

    async def __call__(self, request: Request, parts: Annotated[Services, Depends(services)]) -> Principal | None:
        shown, secret = self.credential(request), parts.metrics_token
        if shown and secret and hmac.compare_digest(shown.encode(), secret.encode()):
            request.state.principal = None
            return None
        return await super().__call__(request, parts)


@router.get("/metrics", include_in_schema=False, dependencies=[Depends(Watching(Action.READ_METRICS))])
def metrics(parts: HubParts) -> Response:
    """What this process has answered, and what the database says of the hub, if it says anything."""
    now = CollectorRegistry()
    now.register(_Now(parts))
    text = generate_latest(parts.metering.registry) + generate_latest(now)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": TO_NOBODY_ELSE})


class _Now:
    """The numbers of this moment, as the library collects them."""

    def __init__(self, parts: Services) -> None:
        self._parts = parts

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Nothing, ahead of time: the library would ask the database for it."""
        return iter(())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        about = {"process": self._parts.metering.process, "version": vera.__version__, "schema": REVISION}
        info = GaugeMetricFamily("vera_hub_info", "Which release this process is of.", labels=list(about))
        info.add_metric(list(about.values()), 1)
        yield info
        if self._parts.settings.is_embedded:
            free = shutil.disk_usage(self._parts.settings.data_dir).free
            yield _gauge("vera_hub_free_bytes", "Room on the disk of the database.", free)
        try:
            stored = list(self._stored())
        except Unavailable:
            stored = []
        yield _gauge(
            "vera_hub_database_up", "1 while the database answers; without it, the rest is not there.", bool(stored)
        )
        yield from stored

    def _stored(self) -> Iterator[GaugeMetricFamily]:
        with self._parts.database.reading() as session:
            found = measuring.measure(session)
            yield _gauges(
                "vera_hub_jobs", "Evaluations by state; those whose worker is lost wait.", "state", found.jobs
            )
            oldest = "How long ago the evaluation that waits for longest was asked for."
            yield _gauge("vera_hub_oldest_waiting_job_seconds", oldest, found.oldest_waiting_s)
            yield _gauges(
                "vera_hub_workers",
                "Workers heard of lately, and those silent since less than a day.",
                "state",
                found.workers,
            )
            yield _gauge("vera_hub_files", "Files stored, each once.", found.files)
            yield _gauge(
                "vera_hub_database_bytes", "What the database takes, with the small files in it.", found.database_bytes
            )
            if self._parts.objects is not None:
                size = self._parts.metering.lately(
                    "objects", lambda: measuring.bytes_outside(session), holds_s=_OBJECTS_HOLD_S
                )
                yield _gauge("vera_hub_object_bytes", "What is in the object store, at most ten minutes ago.", size)


def _gauge(name: str, says: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, says, value=value)


def _gauges(name: str, says: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, says, labels=[label])
    for each, value in values.items():
        family.add_metric([each], value)
    return family
