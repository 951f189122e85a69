"""A worker as a process: its suites, its log, what runs its adapters, and the end of it on SIGTERM or Ctrl-C."""

from __future__ import annotations

import os
import platform
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import structlog

from hub.worker import suites
from hub.worker.main import MOST_TOGETHER, Worker
from hub.worker.suites import Runnable
from sdk.client import Hub
from sdk.config import Config
from sdk.errors import HubError

_log = structlog.get_logger("worker")


@dataclass(frozen=True)
class Fleet:
    """The Ray cluster on which adapters run, and how many at a time (as many as it has GPUs or processors)."""

    address: str
    slots: int | None = None


def main(
    name: str | None = None,
    config: Config | None = None,
    *,
    suite_names: Sequence[str] = (),
    datasets: Path | None = None,
    fleet: Fleet | None = None,
) -> int:
    """Work for the hub of `config` until SIGTERM or Ctrl-C. The exit status: 0, or 1 when the token is refused or the fleet
    is gone.

    `suite_names` are suite files, folders of them and names of built-in suites; without any, the built-in suites
    whose data is here are run. Raises SuiteError, DataError, FleetError, and NotComputed where none can be run, before
    anything is done.
    """
    config = config or Config.resolve()
    known = _runnable(suite_names, datasets, config) if suite_names else suites.available(datasets)
    _log_to_stderr()
    stopping = threading.Event()
    _stop_on_signals(stopping)
    name = name or f"{platform.node()}-{os.getpid()}"
    with Hub(config) as hub:
        try:
            _say_what_lacks(known)
            if fleet is None:
                Worker(hub, name, known.suites, lacks=known.lacks, stopping=stopping).run()
                return 0
            return _run_fleet(fleet, hub, name, known, stopping)
        except HubError as error:
            _log.error("stopped", code=error.code, detail=str(error))
            return 1


def _runnable(suite_names: Sequence[str], datasets: Path | None, config: Config) -> Runnable:
    from sdk.endpoints import for_data

    return suites.runnable(suite_names, datasets=datasets, endpoint=for_data(config))


def _run_fleet(fleet: Fleet, hub: Hub, name: str, known: Runnable, stopping: threading.Event) -> int:
    """As many loops as adapters run at a time, so that what waits of several suites runs at once. To the hub they are one worker."""
    from hub.worker.fleet.cluster import Cluster
    from hub.worker.fleet.engine import FleetRunner

    cluster = Cluster(fleet.address, slots=fleet.slots, stopping=stopping)
    _stop_on_signals(stopping)  # Ray has put its own handlers in place of ours, which end the process at once
    try:
        memory_bytes, slots = cluster.wait().memory_bytes, cluster.slots
        workers = [
            Worker(
                hub, name, known.suites, lacks=known.lacks, runner=FleetRunner(cluster), stopping=stopping,
                memory_bytes=memory_bytes, most_together=MOST_TOGETHER * slots,
            )
            for _ in range(slots)
        ]  # fmt: skip
        with ThreadPoolExecutor(len(workers)) as threads:
            for each in [threads.submit(_run_until_all_stop, worker, stopping) for worker in workers]:
                each.result()
    finally:
        cluster.close()
    return int(cluster.is_gone)


def _say_what_lacks(known: Runnable) -> None:
    for suite, missing in known.lacks.items():
        for metric, reason in missing.items():
            _log.warning("not_computed", suite=suite, metric=metric, is_run=suite in known.suites, detail=reason)


def _stop_on_signals(stopping: threading.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())


def _run_until_all_stop(worker: Worker, stopping: threading.Event) -> None:
    try:
        worker.run()
    finally:
        stopping.set()


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(os.fdopen(os.dup(2), "w", buffering=1)),
    )
