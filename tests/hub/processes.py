"""The server as a user starts it: a process of its own, stopped by its own pid."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMMANDS = [sys.executable, "-c", "import sys, hub.cli as c; getattr(c, sys.argv.pop(1))(prog_name='vera-hub')"]
READY = re.compile(r"Vera Hub is ready at (http://\S+) \(data in (.+)\)")
START_TIMEOUT_S = 60


@dataclass
class Server:
    """A hub that is ready. `profile` is where it wrote the login of its user."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    profile: Path

    @property
    def pids(self) -> list[int]:
        """The process that was started, and those that it has started."""
        task = Path(f"/proc/{self.process.pid}/task")
        return [self.process.pid, *(int(pid) for each in task.glob("*/children") for pid in each.read_text().split())]

    def login(self) -> dict[str, str]:
        hubs = json.loads((self.profile / "profile.json").read_text())["hubs"]
        return dict(hubs[self.url])

    def stop(self, number: int = signal.SIGTERM) -> int:
        """The exit status after this signal."""
        self.process.send_signal(number)
        return self.process.wait(30)


def run(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One of the hub's commands, to its end."""
    return subprocess.run(
        [*COMMANDS, *arguments],
        env=_environment(folder, environment),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )


@contextmanager
def serving(
    folder: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
    with_worker: bool = False,
    command: Sequence[str] = COMMANDS,
) -> Iterator[Server]:
    """`serve` on a free port, with its data and profile in `folder`, until the block ends."""
    worker = [] if with_worker else ["--no-worker"]
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", *worker, *options],
        env=_environment(folder, environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _wait_until_ready(process, folder)
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.communicate()


def _wait_until_ready(process: subprocess.Popen[str], folder: Path) -> Server:
    overdue = threading.Timer(START_TIMEOUT_S, process.kill)
    overdue.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
    finally:
        overdue.cancel()
    ready = READY.match(line)
    if ready is None:
        process.kill()
        raise AssertionError(f"the hub did not start: {line}{process.communicate()[1]}")
    return Server(process, ready[1], Path(ready[2]), folder / "config")


def _environment(folder: Path, more: Mapping[str, str] | None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VERA_HUB_", "AWS_"))}
    ours = {"VERA_HUB_DATA_DIR": str(folder / "data"), "VERA_HUB_CONFIG": str(folder / "config")}
    return {**kept, **ours, "PYTHONUNBUFFERED": "1", **(more or {})}
