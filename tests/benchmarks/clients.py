"""What somebody waits for who publishes and fetches one adapter of 172 KB, the hub on the same machine.

A cold pull is a process of its own, from the shell's call to its end, of modules that were compiled before, as an
installer does it. The rest is one process that has a connection already: it proves what it sends and what it gets. No
version is fetched twice, but where that is said.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sdk.client import Hub
from sdk.config import Config
from sdk.fetching import pull
from sdk.pushing import push_folder
from tests.benchmarks.wrk import Row
from tests.hub.processes import COMMANDS, Server
from vera import archive
from vera.archive import Archive

TURNS = 20


def rows(server: Server, folder: Path, user: str, archives: list[Archive]) -> Iterator[Row]:
    """`archives` are two for each turn, no two alike, and their base known to the hub."""
    config = Config(server.url, server.profile, folder / "cache", token=server.login()["token"])
    folders = [_written(each, folder / f"pushed-{number}") for number, each in enumerate(archives)]
    references = [f"{user}/waited-{number}@v1" for number in range(len(folders))]
    with Hub(config) as hub:
        names = iter(zip(folders, references, strict=True))

        def push() -> None:
            path, reference = next(names)
            push_folder(hub, path, reference.partition("@")[0])

        yield _timed("push, by a process that runs", push, "25 ms", times=len(folders))
        # Pushing leaves nothing to fetch where it was pushed from.
        apart = Config(server.url, server.profile, folder / "other-cache", token=config.token)
        with Hub(apart) as other:
            here = iter(references[:TURNS])
            yield _timed("pull, by a process that runs", lambda: _pull(other, next(here), folder), "8 ms")
            yield _timed("the same version again", lambda: _pull(other, references[0], folder))
    there = iter(references[TURNS:])
    _pull_cold(server, references[0], folder)  # compiles
    yield _timed("`vera-hub pull`, a process of its own", lambda: _pull_cold(server, next(there), folder), "300 ms")


def _written(each: Archive, folder: Path) -> Path:
    archive.write_folder(each, folder)
    return folder


def _pull(hub: Hub, reference: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as target:
        pull(reference, to=Path(target) / "adapter", hub=hub)


def _pull_cold(server: Server, reference: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as target:
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment = {
            **kept, "VERA_HUB_URL": server.url, "VERA_HUB_CONFIG": str(server.profile),
            "VERA_HUB_CACHE": f"{target}/cache", "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        }  # fmt: skip
        command = [
            *COMMANDS[:2],
            "from sdk.cli.main import main; main()",
            "pull",
            reference,
            "--to",
            f"{target}/adapter",
        ]
        subprocess.run(command, env=environment, check=True, capture_output=True)


def _timed(what: str, act: Callable[[], None], goal: str = "", *, times: int = TURNS) -> Row:
    """Milliseconds of each of so many turns, one after another."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(1000 * (time.perf_counter() - began))
    return Row(what, 1000 / statistics.mean(taken), statistics.median(taken), max(taken), goal)
